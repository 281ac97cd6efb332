"""Settings: the environment (`FEDERATION_...`), or the same names in a TOML file; the environment wins."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from federation.domain.errors import Invalid

PREFIX: Final = "FEDERATION_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, with their defaults. Names are those of the environment without the prefix, in lower case."""

    database_url: str = ""
    data_dir: Path = Path(".federation")
    listen: str = "127.0.0.1:8080"
    probes_listen: str = ""
    kafka_bootstrap: str = ""
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str = "PLAIN"
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = field(default="", repr=False)
    kafka_ssl_cafile: str = ""
    kafka_ssl_certfile: str = ""
    kafka_ssl_keyfile: str = ""
    kafka_partitions: int = 6
    kafka_replication: int = 1
    heartbeat_seconds: float = 10.0
    silent_after_seconds: float = 30.0
    hold_deadline_seconds: float = 300.0
    log_format: str = "console"
    log_level: str = "info"
    auth_issuer: str = ""
    auth_audience: str = ""
    auth_jwks: str = ""
    cluster: str = ""
    cluster_labels: str = ""
    events_topic: str = ""
    kubeconfig: str = ""
    context: str = ""
    allowed_kinds: str = "apps/v1/Deployment,apps/v1/StatefulSet,batch/v1/Job"
    members: int = 6
    seed: int = 1

    @property
    def database(self) -> str:
        """The database's URL: the setting, or SQLite in the data directory."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'federation.db'}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""
        return _address("LISTEN", self.listen)

    @property
    def probes_address(self) -> tuple[str, int] | None:
        """Host and port for the probes of a role that serves no API; None where nobody asks."""
        return _address("PROBES_LISTEN", self.probes_listen) if self.probes_listen else None


def _address(name: str, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise Invalid(f"{name}: {value!r} is not host:port", name)
    return host.strip("[]"), int(port)


def load(environment: Mapping[str, str] | None = None, path: str = "") -> Settings:
    """Settings from a TOML file (*path*, or FEDERATION_CONFIG) and the environment over it; unknown names are refused."""
    environment = os.environ if environment is None else environment
    path = path or environment.get(PREFIX + "CONFIG", "")
    known = {each.name: each for each in fields(Settings)}
    values = dict(_from_file(path, known).items()) if path else {}
    for name, value in environment.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key in known:
            values[key] = value
    return _checked(Settings(**{name: _typed(name, known[name].type, value) for name, value in values.items()}))


def _from_file(path: str, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"the settings file {path!r} cannot be read: {error}") from error
    named = {key.removeprefix(PREFIX).lower(): value for key, value in found.items()}
    unknown = sorted(named.keys() - known.keys())
    if unknown:
        raise Invalid(f"the settings file {path!r} has unknown names: {', '.join(unknown)}")
    return named


def _typed(name: str, kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise Invalid(f"{PREFIX}{name.upper()}: {value!r} is not {_PLAIN.get(kind, 'a value')}") from error


_PLAIN: Final = {int: "a whole number", float: "a number of seconds"}


def _checked(settings: Settings) -> Settings:
    for name in ("heartbeat_seconds", "silent_after_seconds", "hold_deadline_seconds"):
        value = getattr(settings, name)
        if not 0 < value < 86_400 * 365:
            raise Invalid(f"{PREFIX}{name.upper()}: {value} is not a number of seconds above zero")
    if settings.log_format not in ("console", "json"):
        raise Invalid(f"{PREFIX}LOG_FORMAT: {settings.log_format!r} is neither console nor json")
    auth = (settings.auth_issuer, settings.auth_audience, settings.auth_jwks)
    if any(auth) and not all(auth):
        raise Invalid(f"{PREFIX}AUTH_ISSUER, _AUDIENCE and _JWKS belong together: set all three or none")
    return settings


def with_overrides(settings: Settings, overrides: Mapping[str, str]) -> Settings:
    """*settings* with what was given on the command line; empty strings were not given."""
    kinds = {each.name: each.type for each in fields(Settings)}
    given = {name: _typed(name, kinds[name], value) for name, value in overrides.items() if value}
    return _checked(replace(settings, **given))

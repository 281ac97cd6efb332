"""Options that commands share, as dataclasses, and the decorator that spreads their fields over a command."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

import typer

from federation.cli.failures import INTERRUPTED, Failed

if TYPE_CHECKING:
    from federation.cli.client import Client

DEFAULT_SERVER: Final = "http://127.0.0.1:8080"
_SHARED: Final = "Connection and output"


class Format(StrEnum):
    """How answers are written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Which server, and as whom."""

    server: Annotated[
        str,
        typer.Option(
            "--server", envvar="FEDERATION_SERVER", metavar="URL", help="The server to ask.", rich_help_panel=_SHARED
        ),
    ] = DEFAULT_SERVER
    token: Annotated[
        str,
        typer.Option(
            "--token", envvar="FEDERATION_TOKEN", metavar="JWT", help="The token to show.", rich_help_panel=_SHARED
        ),
    ] = ""

    def client(self) -> "Client":
        """The way to the server."""
        from federation.cli.client import Client

        return Client(server=self.server, token=self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Connection):
    """Which server, as whom, and how to write its answer."""

    output: Annotated[
        Format, typer.Option("--output", "-o", help="How to write the answer.", rich_help_panel=_SHARED)
    ] = Format.TABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose workloads."""

    team: Annotated[
        str, typer.Option("--team", "-t", envvar="FEDERATION_TEAM", metavar="TEAM", help="The team it belongs to.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to stay."""

    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait/--no-wait",
            help="Wait until the pods run, or not even for the decision. Without either: until it is decided.",
        ),
    ] = None
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to wait: 90s, 5m, 1h.")] = "5m"

    @property
    def seconds(self) -> float:
        """The limit of all waiting together."""
        number, unit = self.timeout[:-1], self.timeout[-1:]
        scale = {"s": 1, "m": 60, "h": 3600}.get(unit)
        if scale is None:
            number, scale = self.timeout, 1
        if not (number.isascii() and number.isdigit()) or int(number) * scale > 86_400:
            raise typer.BadParameter(f"not a time of at most 24h: {self.timeout!r}", param_hint="--timeout")
        return float(int(number) * scale)


def command(app: typer.Typer, panel: str, name: str | None = None) -> Callable[[Callable[..., None]], None]:
    """Add a function to *app*; the fields of its dataclass parameters become options, its failures exit statuses."""

    def register(function: Callable[..., None]) -> None:
        app.command(name or function.__name__, rich_help_panel=panel)(_spread(function))

    return register


def _spread(function: Callable[..., None]) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}

    @wraps(function)
    def run(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        _ending(function, {**given, **made})

    parameters = [
        parameter
        for plain in inspect.signature(function).parameters.values()
        for parameter in (_parameters(groups[plain.name]) if plain.name in groups else [_plain(plain, hints)])
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _ending(function: Callable[..., None], arguments: dict[str, Any]) -> None:
    try:
        function(**arguments)
    except Failed as failure:
        typer.echo(f"error: {failure}", err=True)
        raise typer.Exit(failure.status) from failure
    except KeyboardInterrupt as interrupt:
        typer.echo("", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt


def _plain(parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [_of_field(field, hints[field.name]) for field in fields(group)]


def _of_field(field: "Field[Any]", hint: object) -> inspect.Parameter:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)

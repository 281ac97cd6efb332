"""The issuer's published keys: read from a file or fetched, cached, and each bound to the one algorithm that it serves."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from federation.domain.errors import Invalid, Unavailable

MAX_SET_BYTES: Final = 2**18
_MOST_KEYS: Final = 64
_FETCH_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 300.0
_RETRY_SECONDS: Final = 10.0
_LEAST_RSA_BITS: Final = 2048
_ALGORITHMS: Final[Mapping[tuple[str, str], str]] = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_log = structlog.get_logger("federation.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A public key and the only algorithm for which it is taken."""

    algorithm: str
    key: Any


class Keys:
    """The key set at *place*, a file or an address; read again when it is old or names a key that is not known."""

    def __init__(self, place: str, now: Callable[[], float] = time.monotonic) -> None:
        _check_place(place)
        self._place = place
        self._now = now
        self._keys: dict[str, SigningKey] = {}
        self._read_at = -_FRESH_SECONDS
        self._tried_at = -_RETRY_SECONDS
        self._lock = asyncio.Lock()

    async def find(self, kid: object) -> SigningKey | None:
        """The key of that id; without an id the only key that there is."""
        if self._now() - self._read_at >= _FRESH_SECONDS or self._pick(kid) is None:
            await self._refresh()
        return self._pick(kid)

    def _pick(self, kid: object) -> SigningKey | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid) if isinstance(kid, str) else None

    async def _refresh(self) -> None:
        """Read the set again, but not more often than every few seconds, whatever ids strangers make up."""
        async with self._lock:
            if self._now() - self._tried_at < _RETRY_SECONDS:
                return
            self._tried_at = self._now()
            try:
                self._keys = parse_keys(await self._read())
                self._read_at = self._now()
            except (OSError, TimeoutError, aiohttp.ClientError, Invalid) as error:
                # Keys once read stay good: an issuer that is down for an hour must not lock everybody out.
                _log.warning("key set not read", place=self._place, error=repr(error))
                if not self._keys:
                    raise Unavailable("the issuer's keys cannot be read now") from error

    async def _read(self) -> bytes:
        if urlsplit(self._place).scheme in ("http", "https"):
            return await _fetch(self._place)
        return await asyncio.to_thread(_read_file, self._place)


def parse_keys(document: bytes) -> dict[str, SigningKey]:
    """The usable keys of a JSON Web Key Set by id; keys for other purposes or algorithms are passed over."""
    try:
        found = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Invalid("the key set is not JSON") from None
    if not isinstance(found, list):
        raise Invalid("the key set has no keys")
    keys = {}
    for entry in found[:_MOST_KEYS]:
        if isinstance(entry, dict) and (key := _signing_key(entry)) is not None:
            keys[str(entry.get("kid", ""))] = key
    if not keys:
        raise Invalid("the key set has no key that is taken: RS256 from 2048 bits, ES256 or EdDSA")
    return keys


def _signing_key(entry: Mapping[str, Any]) -> SigningKey | None:
    kind = str(entry.get("kty"))
    algorithm = _ALGORITHMS.get((kind, "" if kind == "RSA" else str(entry.get("crv"))))
    if algorithm is None or entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK.from_dict({name: entry[name] for name in entry if name != "d"}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return None
    return SigningKey(algorithm=algorithm, key=key)


async def _fetch(address: str) -> bytes:
    limit = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=limit) as session,
        session.get(address, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise Invalid(f"the key set's address answers {response.status}")
        document = await response.content.read(MAX_SET_BYTES + 1)
        while len(document) <= MAX_SET_BYTES and (more := await response.content.read(MAX_SET_BYTES)):
            document += more
    if len(document) > MAX_SET_BYTES:
        raise Invalid("the key set is too long")
    return document


def _read_file(place: str) -> bytes:
    with Path(place).open("rb") as file:
        document = file.read(MAX_SET_BYTES + 1)
    if len(document) > MAX_SET_BYTES:
        raise Invalid("the key set is too long")
    return document


def _check_place(place: str) -> None:
    """An address must be https, or keys could be put in on the way; on loopback there is no way."""
    parts = urlsplit(place)
    if parts.scheme == "http" and not _is_local(parts.hostname or ""):
        raise Invalid("the key set's address must be https")


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

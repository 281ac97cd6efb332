"""Who is calling: bearer tokens against published keys, or, where no issuer is set, whoever is on this machine."""

import time
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, Protocol

import jwt
from aiohttp import web

from federation.api.keys import Keys
from federation.api.parts import AuthSettings
from federation.api.problems import Unauthorized
from federation.domain.cloudevents import is_label
from federation.services.callers import Caller, Forbidden, Role

LOCAL: Final = Caller(who="local", role=Role.OPERATOR)
_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_LONGEST_TOKEN: Final = 8000
_LEEWAY_SECONDS: Final = 30
_REMEMBER_SECONDS: Final = 60.0
_REMEMBERED: Final = 1024
_NEEDED: Final = ("exp", "iss", "aud", "role")


class Authenticator(Protocol):
    """Tells who sent a request, or refuses it."""

    async def __call__(self, request: web.Request) -> Caller: ...


class Loopback:
    """The embedded default: this machine's own users are operators, and nobody else is served."""

    async def __call__(self, request: web.Request) -> Caller:
        headers = request.headers
        if not _is_loopback(request.remote) or "Forwarded" in headers or "X-Forwarded-For" in headers:
            raise Forbidden("without an issuer of tokens only this machine is served")
        # A page elsewhere may have its own name resolve to this machine; its requests then bear that name.
        if not _names_loopback(headers.get("Host", "")):
            raise Forbidden("without an issuer of tokens only names of this machine are served")
        return LOCAL


class Bearer:
    """JSON web tokens of one issuer. What was verified is remembered for a minute, and never past its end."""

    def __init__(self, settings: AuthSettings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._known: dict[str, tuple[Caller, float]] = {}

    async def __call__(self, request: web.Request) -> Caller:
        token = _token(request)
        known = self._known.get(token)
        if known is not None and time.time() < known[1]:
            return known[0]
        caller = await self._verified(token)
        while len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[token] = (caller, min(time.time() + _REMEMBER_SECONDS, caller.expires_ms / 1000))
        return caller

    async def _verified(self, token: str) -> Caller:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthorized("the token cannot be read") from None
        key = await self._keys.find(header.get("kid"))
        if key is None or header.get("alg") != key.algorithm:
            raise Unauthorized("the token is not signed by a key of the issuer")
        try:
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=[key.algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(_NEEDED)},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid: {error}") from None
        return caller_of(claims)


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """The caller that verified claims describe. Operators see all teams; an agent speaks for its cluster."""
    try:
        role = Role(claims["role"])
    except ValueError:
        raise Unauthorized("the claim role is not known") from None
    who = claims.get("sub")
    if not isinstance(who, str) or not who.isprintable() or not 0 < len(who) <= 256:
        raise Unauthorized("the claim sub is absent or unfit")
    expires_ms = int(claims["exp"]) * 1000
    if role is Role.OPERATOR:
        return Caller(who=who, role=role, expires_ms=expires_ms)
    if role is Role.AGENT:
        return Caller(who=who, role=role, team="", cluster=_label(claims, "cluster"), expires_ms=expires_ms)
    return Caller(who=who, role=role, team=_label(claims, "team"), expires_ms=expires_ms)


def _label(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not is_label(value):
        raise Unauthorized(f"the claim {name} is absent or no DNS label")
    return value


def _token(request: web.Request) -> str:
    given = request.headers.getall("Authorization", [])
    if len(given) != 1:
        raise Unauthorized("a bearer token is needed")
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("a bearer token is needed")
    if len(token) > _LONGEST_TOKEN or not token.isascii():
        raise Unauthorized("the token cannot be read")
    return token


@lru_cache(maxsize=1024)
def _names_loopback(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine."""
    return host.lower() in _LOOPBACK_HOSTS or host.lower().rpartition(":")[0] in _LOOPBACK_HOSTS


@lru_cache(maxsize=1024)
def _is_loopback(remote: str | None) -> bool:
    try:
        return remote is not None and ip_address(remote.partition("%")[0]).is_loopback
    except ValueError:
        return False

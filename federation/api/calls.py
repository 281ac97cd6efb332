"""What a handler gets and gives: one request with its caller and the API's state; headers, parameters and answers."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from aiohttp import web

from federation.api.auth import Authenticator
from federation.api.cursors import Page
from federation.api.parts import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS, ApiParts
from federation.api.recent import Recent
from federation.api.stream import Hub
from federation.domain.cloudevents import is_label
from federation.domain.errors import Invalid, NotFound
from federation.services.callers import Caller

_encode = msgspec.json.Encoder().encode
_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*(?:=\s*"?([0-9]{1,9})"?)?\s*(?=$|[,;])', re.IGNORECASE)
_ETAG: Final = re.compile(r'\s*(W/)?"([!\x23-\x7e]*)"\s*(?:,|$)')
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(slots=True, kw_only=True)
class Api:
    """The state behind the routes. *openapi* is made from the table of all routes, so that it comes from outside."""

    parts: ApiParts
    authenticate: Authenticator
    workloads: Recent
    pool: Recent
    hub: Hub
    openapi: bytes


@dataclass(slots=True)
class Call:
    """One request of one caller."""

    api: Api
    request: web.Request
    caller: Caller

    @property
    def parts(self) -> ApiParts:
        return self.api.parts

    def path(self, name: str) -> str:
        return self.request.match_info[name]

    def query(self, name: str) -> str | None:
        """A query parameter; given twice it is refused, since readers differ in which one counts."""
        values = self.request.query.getall(name, [])
        if len(values) > 1:
            raise Invalid(f"{name} is given twice")
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        value = self.query(name)
        if value not in (None, "true", "false"):
            raise Invalid(f"{name} is true or false")
        return value == "true"

    def page(self, *scope: str | None) -> Page:
        """Where a list goes on; a cursor is good only for the list and the team that it was made for."""
        bound = (self.request.path, self.caller.team, *scope)
        return Page.read(self.query("limit"), self.query("after"), bound)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An encoded body and its entity tag."""

    body: bytes
    etag: str


def workload_key(call: Call) -> str:
    """The id or name in the path; what can be neither is not found."""
    key = call.path("id")
    if _ULID.fullmatch(key) is None and not is_label(key):
        raise NotFound("no such workload")
    return key


def cluster_name(call: Call) -> str:
    """The cluster in the path, as far as this caller may know of it."""
    name = call.path("name")
    if not is_label(name) or call.caller.cluster not in (None, name):
        raise NotFound("no such cluster")
    return name


def decision_id(call: Call) -> str:
    key = call.path("id")
    if _ULID.fullmatch(key) is None:
        raise NotFound("no such decision")
    return key


def answer_of(value: Any, version: int) -> Answer:
    """*value* encoded; its tag begins with the version, so that If-Match can tell the spec from what is observed."""
    body = _encode(value)
    return Answer(body, f'"{version}.{blake2b(body, digest_size=8).hexdigest()}"')


def json_response(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json")


def tagged(call: Call, answer: Answer, status: int = 200) -> web.Response:
    """The answer, or 304 where the caller has it already."""
    headers = {"ETag": answer.etag}
    if status == 200 and call.request.method in ("GET", "HEAD"):
        known = call.request.headers.get("If-None-Match")
        if known is not None and (known.strip() == "*" or answer.etag[1:-1] in (tag for _, tag in _tags(known))):
            return web.Response(status=304, headers=headers)
    return web.Response(body=answer.body, status=status, content_type="application/json", headers=headers)


def expected_versions(call: Call) -> frozenset[int] | None:
    """The versions that If-Match allows; None where any is. Weak tags never match, as RFC 9110 has it."""
    given = call.request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return None
    versions = (tag.partition(".")[0] for weak, tag in _tags(given) if not weak)
    return frozenset(int(version) for version in versions if version.isdecimal() and len(version) < 19)


def _tags(header: str) -> list[tuple[bool, str]]:
    return [(bool(weak), tag) for weak, tag in _ETAG.findall(header[:4096])]


def wait_seconds(call: Call) -> int | None:
    """How long the caller prefers to wait (RFC 7240); None when it does not. More than the limit is the limit."""
    found = _WAIT.search(call.request.headers.get("Prefer", ""))
    if found is None:
        return None
    return DEFAULT_WAIT_SECONDS if found[1] is None else min(int(found[1]), MAX_WAIT_SECONDS)


def idempotency_key(call: Call) -> str | None:
    given = call.request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1 or _KEY.fullmatch(given[0]) is None:
        raise Invalid("Idempotency-Key is 1 to 255 visible ASCII characters, given once")
    return given[0]

"""Every refusal as RFC 9457 has it: one mapping from errors to problems."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from federation.domain.errors import Conflict, FederationError, Invalid, NotFound, Unavailable
from federation.services.callers import Forbidden, KeyReused, PreconditionFailed

PROBLEM_TYPE: Final = "urn:federation:problem:"
CONTENT_TYPE: Final = "application/problem+json"


class Problem(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """*pointer* is the JSON pointer of the field to blame, where there is one."""

    type: str
    title: str
    status: int
    detail: str = ""
    pointer: str = ""
    request_id: str = ""


class Unauthorized(FederationError):
    """No valid token."""


class TooLarge(FederationError):
    """A body beyond the limit."""


class Unsupported(FederationError):
    """A content type or encoding that is not taken."""


class TooSlow(FederationError):
    """The body did not arrive in time."""


# The first that an error is an instance of counts.
_MAPPING: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (Invalid, 400, "invalid"),
    (NotFound, 404, "not-found"),
    (KeyReused, 422, "idempotency-mismatch"),
    (PreconditionFailed, 412, "precondition-failed"),
    (Conflict, 409, "conflict"),
    (Forbidden, 403, "forbidden"),
    (Unauthorized, 401, "unauthorized"),
    (TooLarge, 413, "too-large"),
    (Unsupported, 415, "unsupported-media-type"),
    (TooSlow, 408, "timeout"),
    (Unavailable, 503, "unavailable"),
    (TimeoutError, 503, "unavailable"),
)
_SLUGS: Final[Mapping[int, str]] = {
    400: "invalid",
    404: "not-found",
    405: "not-allowed",
    411: "invalid",
    413: "too-large",
    415: "unsupported-media-type",
    417: "invalid",
}
_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": "1"},
}


def problem_of(error: Exception, request_id: str) -> web.Response:
    """The answer to *error*; what is not expected shows nothing of its inside."""
    if isinstance(error, web.HTTPException):
        return _of_http(error, request_id)
    for kind, status, slug in _MAPPING:
        if isinstance(error, kind):
            detail = str(error) or "it did not answer in time"
            return _response(status, slug, (detail, getattr(error, "pointer", "")), request_id)
    return _response(
        500, "internal", ("something went wrong here; the log has it under this request id", ""), request_id
    )


def malformed(status: int) -> web.Response:
    """The answer to bytes that are no request."""
    slug = _SLUGS.get(status, "internal" if status >= 500 else "invalid")
    return _response(status, slug, ("this is no request that can be read", ""), "")


def _of_http(error: web.HTTPException, request_id: str) -> web.Response:
    slug = _SLUGS.get(error.status, "internal" if error.status >= 500 else "invalid")
    response = _response(error.status, slug, ("", ""), request_id)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _response(status: int, slug: str, what: tuple[str, str], request_id: str) -> web.Response:
    detail, pointer = what
    problem = Problem(
        type=PROBLEM_TYPE + slug,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_printable(detail),
        pointer=_printable(pointer),
        request_id=request_id,
    )
    headers = _HEADERS.get(status)
    return web.Response(body=msgspec.json.encode(problem), status=status, content_type=CONTENT_TYPE, headers=headers)


def _printable(text: str) -> str:
    """*text* without what could forge a line or break an encoder, and no longer than a person reads."""
    return "".join(char if char.isprintable() else "?" for char in text[:2000])

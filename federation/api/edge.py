"""What every request passes: its id, the problem that stands for an error, headers, the metrics and the log."""

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import Counter, Histogram

from federation.api.problems import problem_of
from federation.domain.errors import Unavailable

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_HEADERS: Final = (
    ("Server", "federation"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
_CALLS: Final = Counter("federation_http_requests", "Requests answered", ("method", "route", "status"))
_SECONDS: Final = Histogram("federation_http_request_seconds", "Time to answer", ("method", "route"), buckets=_BUCKETS)
_log = structlog.get_logger("federation.api")
Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Edge:
    """One middleware, so that a cheap request stays cheap."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._meters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def handle(self, request: web.Request, handler: Next) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = self._id_of(request)
        try:
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - the last place where a request's failure can be logged and answered
            response = self._refused(request, error, request_id)
        if not response.prepared:
            set_headers(response, request_id)
        self._measure(request, response.status, time.perf_counter() - started)
        return response

    def _id_of(self, request: web.Request) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._prefix}-{next(self._numbers):x}"

    def _refused(self, request: web.Request, error: Exception, request_id: str) -> web.Response:
        response = problem_of(error, request_id)
        about = {"method": request.method[:16], "route": _route(request), "request_id": request_id}
        if isinstance(error, Unavailable):
            # What is away is told as it is: a traceback with each request meanwhile would bury all else.
            _log.warning("request failed", status=response.status, reason=str(error)[:200], **about)
        elif response.status >= 500 and not isinstance(error, web.HTTPException):
            _log.error("request failed", status=response.status, exc_info=error, **about)
        else:
            _log.info("request refused", status=response.status, reason=str(error)[:200], **about)
        return response

    def _measure(self, request: web.Request, status: int, seconds: float) -> None:
        method = request.method if request.method in _METHODS else "other"
        key = (method, _route(request), status)
        meters = self._meters.get(key)
        if meters is None:
            meters = (_CALLS.labels(*map(str, key)), _SECONDS.labels(*key[:2]))
            self._meters[key] = meters
        meters[0].inc()
        meters[1].observe(seconds)


def middleware() -> Middleware:
    """The edge as aiohttp takes it."""
    edge = Edge()

    @web.middleware
    async def handle(request: web.Request, handler: Next) -> web.StreamResponse:
        return await edge.handle(request, handler)

    return handle


def _route(request: web.Request) -> str:
    """The template of the path: labels must not grow with what callers make up."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


def set_headers(response: web.StreamResponse, request_id: str) -> None:
    headers = response.headers
    if request_id:
        headers["X-Request-Id"] = request_id
    for name, value in _HEADERS:
        if name not in headers:
            headers.add(name, value)

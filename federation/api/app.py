"""The application: the routes of the table behind authentication, roles and the audit of refusals."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from federation.api import openapi
from federation.api.auth import Authenticator, Bearer, Loopback
from federation.api.calls import Api, Call
from federation.api.edge import middleware
from federation.api.keys import Keys
from federation.api.parts import MAX_BODY_BYTES, ApiParts
from federation.api.recent import Recent
from federation.api.routes import ROUTES, Route
from federation.api.stream import Hub
from federation.domain.errors import Conflict, FederationError, Invalid, NotFound
from federation.services.callers import Act, Caller, Forbidden, Role, record_refusal

API: Final = web.AppKey("api", Api)
NOBODY: Final = Caller(who="nobody", role=Role.VIEWER, team="")
_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_log = structlog.get_logger("federation.api")


def make_app(parts: ApiParts) -> web.Application:
    """The API over *parts*; `api.server.Runner` serves it."""
    api = Api(
        parts=parts,
        authenticate=_authenticator(parts),
        workloads=Recent(parts.settings),
        pool=Recent(parts.settings),
        hub=Hub(parts),
        openapi=openapi.encoded(),
    )
    app = web.Application(middlewares=[middleware()], client_max_size=MAX_BODY_BYTES)
    app[API] = api
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _served(api, route))
    app.on_shutdown.append(_close_streams)
    app.cleanup_ctx.append(_closing)
    return app


def _authenticator(parts: ApiParts) -> Authenticator:
    auth = parts.settings.auth
    if auth is not None:
        return Bearer(auth, Keys(auth.jwks))
    _log.warning("no issuer of tokens is set: everybody on this machine is an operator, and nobody else is served")
    return Loopback()


def _served(api: Api, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route's handler as aiohttp calls it."""
    handler, roles = route.handler, route.roles
    queries = frozenset(route.query)
    guarded = _audited(api, route) if route.method in _WRITES else handler

    async def serve(request: web.Request) -> web.StreamResponse:
        if not roles:
            return await handler(Call(api, request, NOBODY))
        call = Call(api, request, await api.authenticate(request))
        if call.caller.role not in roles:
            return await _refuse_role(call, route)
        if request.query_string and not queries.issuperset(request.query):
            raise Invalid("a query parameter is not known here")
        return await guarded(call)

    return serve


def _audited(api: Api, route: Route) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    """The handler of a write, whose refusals by right or by state are written down."""

    async def handle(call: Call) -> web.StreamResponse:
        try:
            return await route.handler(call)
        except (Forbidden, NotFound, Conflict) as error:
            await _record(call, route, error)
            raise

    return handle


async def _refuse_role(call: Call, route: Route) -> web.StreamResponse:
    error = Forbidden(f"the role {call.caller.role} may not do this")
    if route.method in _WRITES:
        await _record(call, route, error)
    raise error


async def _record(call: Call, route: Route, error: FederationError) -> None:
    target = next(iter(call.request.match_info.values()), "")
    act = Act(what=route.name, target=_printable(target), outcome=f"refused: {error}"[:500])
    try:
        await record_refusal(call.parts.ports, call.caller, act)
    except FederationError as trouble:
        _log.warning("refusal not recorded", who=call.caller.who, what=act.what, error=str(trouble))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:253])


async def _close_streams(app: web.Application) -> None:
    app[API].hub.close()


async def _closing(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[API].hub.ended()

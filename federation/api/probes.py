"""Probes and metrics alone, for roles that serve no API: the same answers under the same paths."""

from collections.abc import Mapping

from aiohttp import web

from federation.api.calls import json_response
from federation.api.health import metrics, readiness
from federation.api.parts import Probe
from federation.api.schemas import Health


def make_probes_app(probes: Mapping[str, Probe]) -> web.Application:
    """Nothing here tells of workloads or takes anything, so that nobody is asked who they are."""

    async def livez(_: web.Request) -> web.Response:
        return json_response(Health(status="ok", checks={}))

    async def readyz(_: web.Request) -> web.Response:
        return await readiness(probes)

    async def measured(_: web.Request) -> web.Response:
        return await metrics()

    app = web.Application(client_max_size=1024)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", readyz)
    app.router.add_get("/metrics", measured)
    return app

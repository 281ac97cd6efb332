"""Whether the process lives, whether it can serve, and what it measures."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from federation.api.calls import Call, json_response
from federation.api.parts import Probe
from federation.api.schemas import Health
from federation.domain.errors import FederationError

_PROBE_SECONDS: Final = 2.0


async def get_livez(call: Call) -> web.Response:
    return json_response(Health(status="ok", checks={}))


async def get_readyz(call: Call) -> web.Response:
    return await readiness(call.parts.health, closed=call.api.hub.closed)


async def get_healthz(call: Call) -> web.Response:
    return await get_readyz(call)


async def get_metrics(call: Call) -> web.Response:
    return await metrics()


async def readiness(probes: Mapping[str, Probe], *, closed: bool = False) -> web.Response:
    """What each part says of itself; 503 where one is not well, or all is *closed*."""
    found = await asyncio.gather(*(_probed(probe) for probe in probes.values()))
    checks = {name: wrong or "ok" for name, wrong in zip(probes, found, strict=True)}
    failing = any(found) or closed
    return json_response(Health(status="failing" if failing else "ok", checks=checks), 503 if failing else 200)


async def metrics() -> web.Response:
    """All that this process measures."""
    # Rendering walks all series; beside the loop it holds up nobody.
    text = await asyncio.to_thread(generate_latest, REGISTRY)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _probed(probe: Probe) -> str:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await probe()
    except TimeoutError:
        return f"no answer within {_PROBE_SECONDS:g} s"
    except FederationError as error:
        return str(error) or type(error).__name__

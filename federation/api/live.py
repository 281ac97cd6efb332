"""The route of the live stream."""

from aiohttp import web

from federation.api.calls import Call
from federation.api.stream import serve


async def get_stream(call: Call) -> web.StreamResponse:
    return await serve(call.api.hub, call.request, call.caller, call.parts)

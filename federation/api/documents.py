"""The routes of the published documents."""

from functools import cache

import msgspec
from aiohttp import web

from federation.api import asyncapi
from federation.api.calls import Call


async def get_openapi(call: Call) -> web.Response:
    return web.Response(body=call.api.openapi, content_type="application/json")


async def get_asyncapi(call: Call) -> web.Response:
    return web.Response(body=_asyncapi(), content_type="application/json")


@cache
def _asyncapi() -> bytes:
    return msgspec.json.encode(asyncapi.document())

"""The routes of the published documents; each is made once, when it is first asked for."""

from functools import cache

import msgspec
from aiohttp import web

from federation.api import asyncapi
from federation.api.calls import Call


async def get_openapi(call: Call) -> web.Response:
    # The document is made from the table of routes, in which this route stands.
    from federation.api import openapi

    return web.Response(body=openapi.encoded(), content_type="application/json")


async def get_asyncapi(call: Call) -> web.Response:
    return web.Response(body=_asyncapi(), content_type="application/json")


@cache
def _asyncapi() -> bytes:
    return msgspec.json.encode(asyncapi.document())

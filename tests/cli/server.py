"""A server on loopback that answers what a test tells it to, and remembers what it was asked."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from typer.testing import CliRunner, Result

from federation.cli import app


@dataclass(frozen=True)
class Said:
    """One answer."""

    body: Any = None
    status: int = 200
    content_type: str = "application/json"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    body: Any
    headers: dict[str, str]


@dataclass
class Server:
    """Answers by method and path (with its query); a list is answered one by one, the last for ever."""

    answers: dict[str, list[Said]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, what: str, *bodies: Any) -> "Server":
        self.answers[what] = [body if isinstance(body, Said) else Said(body) for body in bodies]
        return self

    def sent(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]

    def run(self, *arguments: str, text: str | None = None, env: dict[str, str] | None = None) -> Result:
        """Run a command against this server."""
        given = {"FEDERATION_SERVER": self.url, "FEDERATION_TEAM": "", "FEDERATION_TOKEN": "", **(env or {})}
        return CliRunner().invoke(app, list(arguments), input=text, env=given)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.text()
        self.asked.append(
            Asked(request.method, request.path_qs, json.loads(raw) if raw else None, dict(request.headers))
        )
        known = self.answers.get(f"{request.method} {request.path_qs}")
        if known is None:
            return _response(problem(404, "not-found", f"nothing at {request.method} {request.path_qs}"))
        return _response(known.pop(0) if len(known) > 1 else known[0])


def problem(status: int, slug: str, detail: str, pointer: str = "") -> Said:
    title = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 409: "Conflict", 500: "Internal Server Error"}
    body = {
        "type": f"urn:federation:problem:{slug}",
        "title": title[status],
        "status": status,
        "detail": detail,
        **({"pointer": pointer} if pointer else {}),
        "requestId": "r-1",
    }
    return Said(body, status, "application/problem+json")


def page(*items: Any, after: str | None = None) -> dict[str, Any]:
    return {"items": list(items), "next": after}


@contextmanager
def serving() -> Iterator[Server]:
    """A running server; its loop has a thread of its own, since commands block."""
    server, loop = Server(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_start(server), loop).result(timeout=10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()


async def _start(server: Server) -> web.AppRunner:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server._handle)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner


def _response(said: Said) -> web.Response:
    if said.body is None:
        return web.Response(status=said.status)
    text = said.body if isinstance(said.body, str) else json.dumps(said.body)
    return web.Response(text=text, status=said.status, content_type=said.content_type)

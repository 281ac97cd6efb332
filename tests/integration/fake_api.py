"""A small API server that answers as a script says: what no real one can be made to do at will."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from adapters.kubernetes.access import client_of

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeApi:
    """Answers its requests with the script's entries in order, and lets those after the last wait for ever.

    *requests* is what was asked, as queries; *times* when; *dropped* counts answers that the client gave up.
    """

    def __init__(self, script: Sequence[Answer]) -> None:
        self.script = list(script)
        self.requests: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.dropped = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({**request.query})
        self.headers.append({**request.headers})
        self.times.append(asyncio.get_running_loop().time())
        number = len(self.requests) - 1
        try:
            return await (self.script[number] if number < len(self.script) else stream(hang=True))(request)
        except (asyncio.CancelledError, ConnectionError):
            self.dropped += 1
            raise

    async def open(self) -> ApiClient:
        """`Access`: a client of this server."""
        configuration: Any = type.__call__(Configuration)
        configuration.host = self.url
        configuration.api_key = {"BearerToken": "Bearer of-the-agent"}
        return client_of(configuration)

    async def renew(self, client: ApiClient) -> bool:
        """There are no other credentials."""
        return False


@asynccontextmanager
async def serving(*script: Answer) -> AsyncIterator[FakeApi]:
    """A fake on a port of its own."""
    fake = FakeApi(script)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def write_kubeconfig(fake: FakeApi, path: Path, token: str) -> None:
    """A kubeconfig of the fake's only user."""
    content = {
        "clusters": [{"name": "fake", "cluster": {"server": fake.url}}],
        "users": [{"name": "agent", "user": {"token": token}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "agent"}}],
        "current-context": "fake",
    }
    path.write_text(json.dumps(content))


# --- answers -----------------------------------------------------------------------------------------------------------


def body(content: Any, status: int = 200, **headers: str) -> Answer:
    """One JSON document."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=json.dumps(content).encode(), status=status, headers=named)

    return answer


def text(content: str, status: int = 200, **headers: str) -> Answer:
    """Something that is no JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=content.encode(), status=status, headers={"Content-Type": "text/html", **named})

    return answer


def failure(code: int, reason: str = "", cause: str = "", **headers: str) -> Answer:
    """A Status with Failure, under its own code."""
    return body(status(code, reason, cause), code, **headers)


def zipped(size: int) -> Answer:
    """A short answer that is *size* bytes long once unpacked."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(b" " * size), headers={"Content-Encoding": "gzip"})

    return answer


def page(names: Sequence[str] | None, version: str, token: str = "") -> Answer:
    """A page of a list."""
    items = None if names is None else [pod(name, version) for name in names]
    return body({"kind": "PodList", "metadata": {"resourceVersion": version, "continue": token}, "items": items})


def stream(*events: Any, hang: bool = False, reset: bool = False, raw: bytes = b"") -> Answer:
    """Events in one piece, then *raw*; after them the end, silence, or a reset of the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"".join(json.dumps(each).encode() + b"\n" for each in events) + raw)
        if hang:
            await asyncio.sleep(60)
        if reset and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def in_pieces(*pieces: bytes, pause: float = 0.02) -> Answer:
    """Bytes as they are, each piece by itself."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(pause)
        await asyncio.sleep(60)
        return response

    return answer


# --- objects and events ------------------------------------------------------------------------------------------------


def pod(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": version}}


def added(name: str, version: str) -> dict[str, Any]:
    return {"type": "ADDED", "object": pod(name, version)}


def deleted(name: str, version: str) -> dict[str, Any]:
    return {"type": "DELETED", "object": pod(name, version)}


def bookmark(version: str, *, ends: bool = False) -> dict[str, Any]:
    annotations = {"k8s.io/initial-events-end": "true"} if ends else {}
    metadata = {"resourceVersion": version, "annotations": annotations}
    return {"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": metadata}}


def error(code: int, reason: str = "", cause: str = "") -> dict[str, Any]:
    return {"type": "ERROR", "object": status(code, reason, cause)}


def status(code: int, reason: str = "", cause: str = "") -> dict[str, Any]:
    details = {"causes": [{"reason": cause}]} if cause else {}
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "so", "details": details}

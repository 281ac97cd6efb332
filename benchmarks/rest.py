"""GET /v1/pool and /v1/workloads/{id} by 64 connections, beside bare aiohttp that encodes the same body by msgspec.

Each server is a process of its own, on uvloop; this one is the clients. `python -m benchmarks.rest ours|bare` serves.
"""

import asyncio
import logging
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import uvloop
from aiohttp import web

from benchmarks.parts import folder
from benchmarks.report import Line, rate
from tests.api.serving import make_cluster, put_clusters, serving
from tests.testbed.processes import Process

ROOT: Final = Path(__file__).parents[1]
CLUSTERS: Final = 10
PATHS: Final = ("/v1/pool", "/v1/workloads/{id}")


@dataclass(frozen=True, slots=True)
class Size:
    connections: int = 64
    seconds: float = 1.5
    rounds: int = 3


FULL: Final = Size()
TINY: Final = Size(connections=4, seconds=0.1, rounds=1)


async def get(size: Size) -> Line:
    """rest.get"""
    ours, theirs = list[float](), list[float]()
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        servers = []
        for kind in ("bare", "ours"):
            process = Process(kind, [sys.executable, "-m", "benchmarks.rest", kind], place / f"{kind}.log")
            process.start({"PYTHONPATH": str(ROOT)})
            stack.callback(process.kill)
            await asyncio.to_thread(process.wait_until, lambda: b"ready" in process.log.read_bytes(), 30)  # noqa: B023
            servers.append(process.log.read_text(encoding="utf-8").rpartition("ready ")[2].split())
        workload = servers[1][1]
        for _ in range(size.rounds):
            for (port, *_), rates in zip(servers, (theirs, ours), strict=True):
                each = [await answers(int(port), path.format(id=workload), size) for path in PATHS]
                rates.append(len(each) / sum(1 / one for one in each))
    how = (
        f"{' and '.join(PATHS)} in turn, {size.connections} connections, one process, {CLUSTERS} clusters in SQLite, answers "
        f"up to 100 ms old, median of {size.rounds} rounds of {size.seconds} s; yardstick: aiohttp, uvloop, msgspec body"
    )
    return rate("rest.get", "answers/s", ours, theirs, how)


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, request: bytes) -> None:
        self.request, self.answered, self._rest, self._buffer = request, 0, -1, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            assert head.startswith(b"HTTP/1.1 200"), head
            self.answered, self._buffer = self.answered + 1, b""
            self.transport.write(self.request)


async def answers(port: int, path: str, size: Size) -> float:
    """Answers a second."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    running = asyncio.get_running_loop()
    made = [
        await running.create_connection(lambda: Client(request), "127.0.0.1", port) for _ in range(size.connections)
    ]
    clients = [client for _, client in made]
    before, began = sum(client.answered for client in clients), time.perf_counter()
    await asyncio.sleep(size.seconds)
    count = sum(client.answered for client in clients) - before
    seconds = time.perf_counter() - began
    for transport, _ in made:
        transport.close()
    return max(1, count) / seconds


# --- the servers -----------------------------------------------------------------------------------------------------


async def serve_ours() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    async with serving() as served:
        await put_clusters(served.store, *[make_cluster(f"c-{number}") for number in range(CLUSTERS)])
        made = await served.create()
        print("ready", served.url.rpartition(":")[2], made["id"], flush=True)
        await asyncio.sleep(600)


async def serve_bare() -> None:
    """Bodies of the same length, encoded for each answer: bare aiohttp has no reason to keep them."""
    async with serving() as served:
        await put_clusters(served.store, *[make_cluster(f"c-{number}") for number in range(CLUSTERS)])
        made = await served.create()
        bodies = {path: (await served.call("GET", path.format(id=made["id"]))).json for path in PATHS}
    encode, application = msgspec.json.Encoder().encode, web.Application()
    for path, body in bodies.items():

        async def answer(_request: web.Request, body: Any = body) -> web.Response:
            return web.Response(body=encode(body), content_type="application/json")

        application.router.add_get(path, answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("ready", runner.addresses[0][1], flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    uvloop.run(serve_ours() if sys.argv[1] == "ours" else serve_bare())

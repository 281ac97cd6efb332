"""From a request over REST to its action on Kafka, on an idle hub run as its operators run it: one process a role."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer

from adapters.kafka.log import KafkaLog
from adapters.sql.store import open_store
from adapters.system import SystemClock
from benchmarks.parts import folder, open_kafka, running_kafka, running_postgres
from benchmarks.pool import MANIFEST, cluster_of, mixed_nodes
from benchmarks.report import Line, percentile, rounded
from benchmarks.world import cluster_name
from tests.testbed.processes import Process, free_port, listens

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = "federation.events/0"


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 3
    nodes: int = 50
    requests: int = 200
    pause_seconds: float = 0.05


FULL: Final = Size()
TINY: Final = Size(requests=5)


async def loop(size: Size) -> Line:
    """loop"""
    async with AsyncExitStack() as stack:
        bootstrap, url = stack.enter_context(running_kafka()), stack.enter_context(running_postgres())
        settings = {
            "FEDERATION_DATABASE_URL": url,
            "FEDERATION_KAFKA_BOOTSTRAP": bootstrap,
            "FEDERATION_SILENT_AFTER_SECONDS": "3600",
            "FEDERATION_LOG_LEVEL": "warning",
            "PYTHONPATH": str(ROOT),
        }
        await asyncio.to_thread(run, "migrate", settings)
        await fill(url, size)
        log = await stack.enter_async_context(open_kafka(bootstrap))
        actions = await listening(stack, (bootstrap, log), size)
        port, place = free_port(), stack.enter_context(folder())
        stack.enter_context(started("work", settings, place))
        serve = stack.enter_context(started("serve", {**settings, "FEDERATION_LISTEN": f"127.0.0.1:{port}"}, place))
        await asyncio.to_thread(serve.wait_until, lambda: listens(port), 30)
        http = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{port}"))
        for number in range(5):
            await asked(http, actions, f"warm-{number}", 30)
        took = []
        for number in range(size.requests):
            took.append(1000 * await asked(http, actions, f"web-{number}", 10))
            await asyncio.sleep(size.pause_seconds)
    how = (
        f"{size.requests} requests one after the other, {size.clusters} clusters × {size.nodes} nodes; `serve` and `work` "
        f"as processes on PostgreSQL (fsync on) and Kafka; median {percentile(took, 0.5):.0f} ms"
    )
    return Line(name="loop", value=rounded(percentile(took, 0.99)), unit="ms p99", conditions=how)


def run(role: str, settings: dict[str, str]) -> None:
    command = [sys.executable, "-m", "federation", role]
    subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True, timeout=60)


@contextmanager
def started(role: str, settings: dict[str, str], place: Path) -> Iterator[Process]:
    process = Process(role, [sys.executable, "-m", "federation", role], place / f"{role}.log")
    process.start(settings)
    try:
        yield process
    finally:
        process.stop()


async def fill(url: str, size: Size) -> None:
    """Clusters that their agents have told of."""
    nodes, now_ms = mixed_nodes(size.nodes), SystemClock().now_ms()
    store = await open_store(url)
    try:
        async with store.transaction() as transaction:
            for number in range(size.clusters):
                name = cluster_name(number)
                await transaction.save_clusters([cluster_of(name, nodes, now_ms)])
                await transaction.save_nodes(SOURCE, 0, [(name, node) for node in nodes])
            await transaction.move_position(SOURCE, -1, 0)
    finally:
        await store.close()


async def listening(stack: AsyncExitStack, kafka: tuple[str, KafkaLog], size: Size) -> AIOKafkaConsumer:
    """A reader of the actions of all clusters, as their agents are."""
    topics = [f"federation.actions.{cluster_name(number)}" for number in range(size.clusters)]
    making = await kafka[1].consume("bench", topics, nowhere)
    await making.close()
    reader = AIOKafkaConsumer(*topics, bootstrap_servers=kafka[0], auto_offset_reset="earliest")
    await reader.start()
    stack.push_async_callback(reader.stop)
    return reader


async def nowhere(sources: Any) -> dict[str, int]:
    return {}


async def asked(http: aiohttp.ClientSession, actions: AIOKafkaConsumer, name: str, limit_seconds: float) -> float:
    """Seconds from the request to its action."""
    body = {"name": name, "team": "shop", "replicas": 1, "manifest": manifest(name)}
    began = time.perf_counter()
    async with asyncio.timeout(limit_seconds):
        async with http.post("/v1/workloads", json=body) as response:
            answer = await response.read()
            assert response.status == 202, answer
        while True:
            action = await actions.getone()
            if msgspec.json.decode(action.value).get("workload") == name:
                return time.perf_counter() - began


def manifest(name: str) -> dict[str, Any]:
    return {**MANIFEST, "metadata": {"name": name}}

"""From produced to visible: the ingester at 5,000 events a second from a producer in a process of its own."""

import asyncio
import multiprocessing
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from adapters.system import SystemClock
from benchmarks.ingest import append
from benchmarks.parts import folder, open_database, open_kafka, running_kafka, running_postgres
from benchmarks.report import Line, percentile, rounded
from benchmarks.world import Agent, cluster_name, record, updates
from federation.ports import Batch, Consumer, Message, Record
from federation.workers.ingester import GROUP, TOPICS, Ingester
from federation.workers.supervisor import Health
from tests.testbed.build import Unavailable

TICK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 50
    nodes: int = 1_000
    per_second: int = 5_000
    seconds: int = 8


FULL: Final = Size()
TINY: Final = Size(clusters=2, nodes=20, per_second=500, seconds=1)


@dataclass(slots=True)
class Watched:
    """A consumer that notes which records were handed out; they are visible once the turn that folds them is over."""

    consumer: Consumer
    handed: list[Record] = field(default_factory=list)

    async def poll(self, limit: int, wait_seconds: float) -> Batch:
        batch = await self.consumer.poll(limit, wait_seconds)
        self.handed = list(batch.records)
        return batch

    async def hint(self, positions: Mapping[str, int]) -> None:
        await self.consumer.hint(positions)

    async def rewind(self, source: str) -> None:
        await self.consumer.rewind(source)

    async def lag(self) -> Mapping[str, int]:
        return await self.consumer.lag()

    async def close(self) -> None:
        await self.consumer.close()


async def freshness(size: Size) -> Line:
    """freshness"""
    async with AsyncExitStack() as stack:
        bootstrap = stack.enter_context(running_kafka())
        url = database(stack)
        log = await stack.enter_async_context(open_kafka(bootstrap))
        store = await stack.enter_async_context(open_database(url))
        agents = members(size)
        await record(store, agents)
        ingester = Ingester(store, log, SystemClock(), Health())
        consumer = Watched(await log.consume(GROUP, TOPICS, ingester.read_positions))
        await append(log, (agent.opening() for agent in agents))
        ages, took = await measured(ingester, consumer, (bootstrap, size))
    how = (
        f"{len(ages)} node events of 2 kB in {took:.1f} s ({len(ages) / took:.0f}/s, asked for {size.per_second}/s) from "
        f"{size.clusters * size.nodes} nodes into {url.partition('+')[0]}, each moves a hold; from before the producer's "
        f"send to after the commit; median {percentile(ages, 0.5):.0f} ms"
    )
    return Line(name="freshness", value=rounded(percentile(ages, 0.99)), unit="ms p99", conditions=how)


def database(stack: AsyncExitStack) -> str:
    """PostgreSQL where it can be had, else SQLite."""
    try:
        return stack.enter_context(running_postgres())
    except Unavailable:
        return f"sqlite+aiosqlite:///{stack.enter_context(folder()) / 'hub.db'}"


def members(size: Size) -> list[Agent]:
    return [Agent(cluster_name(number), size.nodes) for number in range(size.clusters)]


async def measured(ingester: Ingester, consumer: Watched, work: tuple[str, Size]) -> tuple[list[float], float]:
    """Milliseconds from production to commit of each event, and how long all took."""
    total, ages, first = work[1].per_second * work[1].seconds, list[float](), 0
    producer = multiprocessing.get_context("spawn").Process(target=produce, args=work, daemon=True)
    producer.start()
    try:
        async with asyncio.timeout(60 + 4 * work[1].seconds):
            while len(ages) < total:
                await ingester.turn(consumer)
                now = time.time_ns()
                produced = [int(dict(record.headers)["ce_id"]) for record in told(consumer.handed)]
                first = first or min(produced, default=0)
                ages.extend((now - at) / 1e6 for at in produced)
    finally:
        producer.kill()
        producer.join()
    return ages, (time.time_ns() - first) / 1e9


def told(records: list[Record]) -> list[Record]:
    """Those of the producer: its ids are the time of production."""
    return [record for record in records if dict(record.headers)["ce_id"].isdigit()]


def produce(bootstrap: str, size: Size) -> None:
    """The other process: at every tick what is due."""
    asyncio.run(_produce(bootstrap, size))


async def _produce(bootstrap: str, size: Size) -> None:
    agents = members(size)
    for agent in agents:
        agent.opening()
    total = size.per_second * size.seconds
    events = updates(agents, total, 1)
    async with open_kafka(bootstrap) as log, asyncio.TaskGroup() as sending:
        began, sent = time.perf_counter(), 0
        while sent < total:
            due = min(total, int((time.perf_counter() - began) * size.per_second) + 1)
            if due > sent:
                sending.create_task(log.append([stamped(next(events)) for _ in range(due - sent)]))
                sent = due
            await asyncio.sleep(TICK_SECONDS)


def stamped(message: Message) -> Message:
    return replace(message, envelope=replace(message.envelope, id=str(time.time_ns())))

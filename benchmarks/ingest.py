"""Kafka to the view: the ingester on a topic as it ships, beside bare libraries that store the same columns.

The yardstick reads the same records by aiokafka's getmany, decodes them typed by msgspec, keeps the last of each node
and upserts the columns with its position in one transaction. It neither reads nor compares what was there.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.kafka.log import KafkaLog
from adapters.system import SystemClock
from benchmarks.parts import folder, open_database, open_kafka, running_kafka, running_postgres
from benchmarks.report import Line, rate
from benchmarks.world import Agent, cluster_name, record, updates
from federation.domain.events import NodeObserved
from federation.ports import Consumer, Message
from federation.workers.ingester import GROUP, TOPICS, Ingester
from federation.workers.supervisor import Health

TOPIC: Final = "federation.events"
BATCH: Final = 5_000
COLUMNS: Final = "cluster, node, source, position, doc"
CHANGES: Final = "source = excluded.source, position = excluded.position, doc = excluded.doc"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: *clusters* × *nodes*, and so many *events* in each of *rounds*."""

    clusters: int = 50
    nodes: int = 1_000
    events: int = 12_000
    rounds: int = 3


FULL: Final = Size()
TINY: Final = Size(clusters=2, nodes=20, events=200, rounds=1)
Rows = Sequence[tuple[str, str, str, int, str]]


async def sqlite(size: Size) -> Line:
    """ingest.sqlite"""
    with running_kafka() as bootstrap, folder() as place:
        bare = SqliteYardstick(str(place / "bare.db"))
        ours = f"sqlite+aiosqlite:///{place / 'hub.db'}"
        return await measure("ingest.sqlite", size, (bootstrap, ours), bare)


async def postgresql(size: Size) -> Line:
    """ingest.postgresql"""
    with running_kafka() as bootstrap, running_postgres() as url:
        bare = PostgresYardstick(url.replace("+asyncpg", ""))
        return await measure("ingest.postgresql", size, (bootstrap, url), bare)


async def measure(name: str, size: Size, where: tuple[str, str], bare: "Yardstick") -> Line:
    bootstrap, database = where
    agents = [Agent(cluster_name(number), size.nodes) for number in range(size.clusters)]
    ours, theirs = [], []
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_kafka(bootstrap))
        store = await stack.enter_async_context(open_database(database))
        ingester = Ingester(store, log, SystemClock(), Health())
        consumer = await log.consume(GROUP, TOPICS, ingester.read_positions)
        reader = await stack.enter_async_context(bare_reader(bootstrap))
        await bare.open()
        stack.push_async_callback(bare.close)
        await record(store, agents)
        await bare.store([row for agent in agents for row in bare_rows(agent)])
        await append(log, (agent.opening() for agent in agents))
        until = size.clusters
        await read_bare(reader, bare, until)
        await read_ours(ingester, consumer, until)
        for number in range(size.rounds):
            await append(log, updates(agents, size.events, number))
            until += size.events
            theirs.append(size.events / await timed(lambda: read_bare(reader, bare, until)))  # noqa: B023
            ours.append(size.events / await timed(lambda: read_ours(ingester, consumer, until)))  # noqa: B023
    return rate(name, "events/s", ours, theirs, conditions(size, agents))


def conditions(size: Size, agents: Sequence[Agent]) -> str:
    message = agents[0].observed(0)
    length = len(message.value) + sum(len(key) + len(value) for key, value in message.headers)
    return (
        f"{size.clusters * size.nodes} nodes known, events of {length} bytes with ten placements, each moves a hold, "
        f"6 partitions, {size.rounds} rounds of {size.events}; yardstick: aiokafka getmany, msgspec, upsert"
    )


def bare_rows(agent: Agent) -> Rows:
    return [
        (agent.name, event.node, f"{TOPIC}/0", 0, msgspec.json.encode(event).decode())
        for event in map(agent.event, range(agent.nodes))
    ]


async def append(log: KafkaLog, messages: Iterator[Message]) -> None:
    chunk: list[Message] = []
    for message in messages:
        chunk.append(message)
        if len(chunk) == 1_000:
            await log.append(chunk)
            chunk = []
    await log.append(chunk)


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def read_ours(ingester: Ingester, consumer: Consumer, until: int) -> None:
    async with asyncio.timeout(120):
        while sum(position for position in ingester.positions.values() if position > 0) < until:
            await ingester.turn(consumer)


async def read_bare(reader: AIOKafkaConsumer, bare: "Yardstick", until: int) -> None:
    async with asyncio.timeout(120):
        while sum(bare.positions.values()) < until:
            found = await reader.getmany(timeout_ms=500, max_records=BATCH)
            rows: dict[tuple[str, str], tuple[str, str, str, int, str]] = {}
            for partition, messages in found.items():
                source = f"{partition.topic}/{partition.partition}"
                for message in messages:
                    if dict(message.headers)["ce_type"] != b"federation.node.observed.v1":
                        continue
                    event = bare.decode(message.value)
                    key = (event.cluster, event.node)
                    rows[key] = (*key, source, message.offset, message.value.decode())
                bare.positions[source] = messages[-1].offset + 1
            if rows:
                await bare.store(list(rows.values()))


@asynccontextmanager
async def bare_reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    reader = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await reader.start()
    try:
        partitions = [TopicPartition(TOPIC, number) for number in range(6)]
        reader.assign(partitions)
        await reader.seek_to_beginning(*partitions)
        yield reader
    finally:
        await reader.stop()


class Yardstick:
    """What both have in common: the decoder and the positions that it stores with the rows."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.positions: dict[str, int] = {}
        self.decode = msgspec.json.Decoder(NodeObserved).decode

    async def open(self) -> None:
        raise NotImplementedError

    async def store(self, rows: Rows) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class SqliteYardstick(Yardstick):
    """The standard library's sqlite3, durable as ours is, on the loop's own thread: nothing is cheaper."""

    async def open(self) -> None:
        self.connection = sqlite3.connect(self.where, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute(
            "CREATE TABLE nodes (cluster TEXT, node TEXT, source TEXT, position INTEGER, doc TEXT, "
            "PRIMARY KEY (cluster, node)) STRICT"
        )
        self.connection.execute("CREATE INDEX nodes_changed ON nodes (source, position)")
        self.connection.execute("CREATE TABLE partitions (source TEXT PRIMARY KEY, position INTEGER) STRICT")

    async def store(self, rows: Rows) -> None:
        run = self.connection
        run.execute("BEGIN IMMEDIATE")
        run.executemany(
            f"INSERT INTO nodes ({COLUMNS}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (cluster, node) DO UPDATE SET {CHANGES}",
            rows,
        )
        run.executemany("INSERT OR REPLACE INTO partitions VALUES (?, ?)", list(self.positions.items()))
        run.execute("COMMIT")

    async def close(self) -> None:
        self.connection.close()


class PostgresYardstick(Yardstick):
    """asyncpg with one UNNEST a batch."""

    connection: Any

    async def open(self) -> None:
        self.connection = await asyncpg.connect(self.where)
        await self.connection.execute(
            "CREATE SCHEMA bare; SET search_path TO bare; "
            "CREATE TABLE nodes (cluster text, node text, source text, position bigint, doc text, "
            "PRIMARY KEY (cluster, node)); CREATE INDEX ON nodes (source, position); "
            "CREATE TABLE partitions (source text PRIMARY KEY, position bigint)"
        )

    async def store(self, rows: Rows) -> None:
        async with self.connection.transaction():
            await self.connection.execute(
                f"INSERT INTO nodes ({COLUMNS}) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], "
                f"$5::text[]) ON CONFLICT (cluster, node) DO UPDATE SET {CHANGES}",
                *zip(*rows, strict=True),
            )
            await self.connection.executemany(
                "INSERT INTO partitions VALUES ($1, $2) ON CONFLICT (source) DO UPDATE SET position = excluded.position",
                list(self.positions.items()),
            )

    async def close(self) -> None:
        await self.connection.close()

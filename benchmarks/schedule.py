"""Workloads decided, held and committed with explanations and orders, beside the same rows written by bare asyncpg.

The yardstick is given the very rows that the scheduler wrote, and writes them by one UNNEST a table, as many decisions
a transaction, into tables with the same indexes.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from adapters.sql.store import SqlStore
from adapters.system import SystemClock, Threads, Ulids
from benchmarks.parts import open_database, running_postgres
from benchmarks.pool import cluster_of, mixed_nodes, spec_of
from benchmarks.report import Line, rate
from benchmarks.world import cluster_name
from federation.domain.workload import Workload
from federation.services.image import Image
from federation.services.scheduling import BATCH, Scheduler, Tools, run_cycle

SOURCE: Final = "federation.events/0"
TABLES: Final = ("clusters", "workloads", "placements", "decisions", "outbox", "explanations", "cycles")
KEYS: Final = {"clusters": "name", "workloads": "id", "placements": "id"}
KINDS: Final = {str: "text[]", int: "bigint[]", bytes: "bytea[]"}
Rows = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Size:
    clusters: int = 100
    nodes: int = 1_000
    workloads: int = 3_000
    rounds: int = 3


FULL: Final = Size()
TINY: Final = Size(clusters=3, nodes=20, workloads=30, rounds=1)


async def postgresql(size: Size) -> Line:
    """schedule.postgresql"""
    ours, theirs = [], []
    async with AsyncExitStack() as stack:
        url = stack.enter_context(running_postgres())
        store = await stack.enter_async_context(open_database(url))
        bare = await asyncpg.connect(url.replace("+asyncpg", ""))
        stack.push_async_callback(bare.close)
        compute, ids = Threads(), Ulids()
        stack.callback(compute.close)
        await fill(store, size)
        for table in TABLES:
            await bare.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")
        scheduler, tools = Scheduler(Image(30.0)), Tools(store, SystemClock(), ids, compute, 300.0)
        await run_cycle(scheduler, tools)
        for number in range(size.rounds):
            workloads = [
                Workload(id=ids.new(), spec=spec_of(number * size.workloads + one, 1 + one % 4), created_ms=1)
                for one in range(size.workloads)
            ]
            async with store.transaction() as transaction:
                await transaction.save_workloads(workloads)
            ours.append(size.workloads / await decided(scheduler, tools, size.workloads))
            rows = [await written(bare, part) for part in batches([each.id for each in workloads])]
            theirs.append(size.workloads / await rewritten(bare, rows))
    how = (
        f"{size.clusters} clusters × {size.nodes} nodes in PostgreSQL (fsync on), {size.rounds} rounds of "
        f"{size.workloads} workloads of 1 to 4 replicas, {BATCH} a transaction, from the queue to committed orders; "
        "yardstick: the same rows by asyncpg UNNEST"
    )
    return rate("schedule.postgresql", "workloads/s", ours, theirs, how)


async def fill(store: SqlStore, size: Size) -> None:
    """The view as agents have told it."""
    nodes, now_ms = mixed_nodes(size.nodes), SystemClock().now_ms()
    for number in range(size.clusters):
        name = cluster_name(number)
        async with store.transaction() as transaction:
            await transaction.save_clusters([cluster_of(name, nodes, now_ms)])
            await transaction.save_nodes(SOURCE, number, [(name, node) for node in nodes])
    async with store.transaction() as transaction:
        await transaction.move_position(SOURCE, -1, size.clusters)


async def decided(scheduler: Scheduler, tools: Tools, count: int) -> float:
    began, done = time.perf_counter(), 0
    while done < count:
        made = await run_cycle(scheduler, tools)
        assert made.decided, made.dropped
        done += len(made.decided)
    return time.perf_counter() - began


def batches(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


async def written(bare: asyncpg.Connection, workloads: Sequence[str]) -> Rows:
    """What the scheduler wrote for these workloads."""
    kinds = {
        "clusters": ("SELECT * FROM clusters WHERE $1::text[] IS NOT NULL", workloads),
        "workloads": ("SELECT * FROM workloads WHERE id = ANY($1)", workloads),
        "placements": ("SELECT * FROM placements WHERE workload = ANY($1)", workloads),
        "decisions": ("SELECT * FROM decisions WHERE workload = ANY($1)", workloads),
    }
    rows = {table: await bare.fetch(query, list(values)) for table, (query, values) in kinds.items()}
    decisions = [row["id"] for row in rows["decisions"]]
    explained = sorted({row["explanation"] for row in rows["decisions"]})
    rows["outbox"] = await bare.fetch("SELECT * FROM outbox WHERE decision = ANY($1)", decisions)
    rows["explanations"] = await bare.fetch("SELECT * FROM explanations WHERE id = ANY($1)", explained)
    rows["cycles"] = await bare.fetch(
        "SELECT * FROM cycles WHERE id IN (SELECT DISTINCT doc::json->>'cycle' FROM decisions WHERE id = ANY($1))",
        decisions,
    )
    return rows


async def rewritten(bare: asyncpg.Connection, batches: Sequence[Rows]) -> float:
    began = time.perf_counter()
    for rows in batches:
        async with bare.transaction():
            for table, found in rows.items():
                if found:
                    await bare.execute(
                        statement(table, dict(found[0])), *zip(*(tuple(row) for row in found), strict=True)
                    )
    return time.perf_counter() - began


def statement(table: str, row: Mapping[str, Any]) -> str:
    arrays = ", ".join(f"${place}::{KINDS[type(value)]}" for place, value in enumerate(row.values(), 1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name != KEYS.get(table))
    conflict = f"ON CONFLICT ({KEYS[table]}) DO UPDATE SET {changes}" if table in KEYS else "ON CONFLICT DO NOTHING"
    return f"INSERT INTO bare_{table} ({', '.join(row)}) SELECT * FROM UNNEST({arrays}) {conflict}"

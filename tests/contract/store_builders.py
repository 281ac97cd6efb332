"""Rows for the contract of the store, and the databases that it is held to."""

import asyncio
from itertools import count
from typing import Any, Protocol

from adapters.sql.store import SqlStore
from federation.domain.cluster import Cluster
from federation.domain.placement import Placement
from federation.domain.records import Decision, OutboxRow, Parked
from federation.domain.workload import Component, Workload, WorkloadSpec

SOURCE = "federation.events/0"
numbers = count(1)


class Base(Protocol):
    """A database with its schema, and stores opened on it as processes of their own would."""

    async def open(self, *, pool_size: int = 10) -> SqlStore: ...

    async def unreachable(self) -> SqlStore:
        """A store on a database that is not there."""


def make_cluster(name: str = "east", **fields: Any) -> Cluster:
    return Cluster(name=name, **fields)


def make_placement(name: str, *, workload: str = "w", cluster: str = "east", **fields: Any) -> Placement:
    return Placement(id=name, workload=workload, team="shop", cluster=cluster, **fields)


def make_workload(name: str, *, team: str = "shop", priority: int = 0, **fields: Any) -> Workload:
    spec = WorkloadSpec(name=name, team=team, priority=priority, components=(Component(replicas=1),))
    return Workload(id=f"{next(numbers):026}", spec=spec, **fields)


def make_row(cluster: str = "east", **fields: Any) -> OutboxRow:
    return OutboxRow(cluster=cluster, **{"type": "federation.placement.wanted.v1", "doc": {"replicas": 3}, **fields})


async def save(store: SqlStore, *clusters: Cluster) -> None:
    async with store.transaction() as tx:
        await tx.save_clusters(clusters)


async def enqueue(store: SqlStore, *rows: OutboxRow) -> list[OutboxRow]:
    async with store.transaction() as tx:
        await tx.enqueue(rows)
    async with store.transaction() as tx:
        return await tx.waiting_rows(100)


async def all_given_back(store: SqlStore) -> None:
    """Until no connection is in use; what was cancelled while it connected is given back once it has."""
    async with asyncio.timeout(5):
        while store.committed().in_use:  # noqa: ASYNC110  a pool has no event to wait for
            await asyncio.sleep(0.01)


def make_parked(offset: int) -> Parked:
    return Parked(
        source=SOURCE,
        offset=offset,
        at_ms=7,
        reason="the body is empty",
        key="east",
        headers=(("ce_id", b"\x00\xff"), ("other", b"")),
        value=b"\x00 not JSON \xff",
    )


def make_decision(name: str, workload: str) -> Decision:
    spec = WorkloadSpec(name="web", components=(Component(replicas=1),))
    return Decision(
        id=name,
        workload=workload,
        cycle="c",
        explanation="c.0",
        at_ms=1,
        version=1,
        total=1,
        spec=spec,
        outcome="placed",
        placed={"east": 1},
        previous={},
    )

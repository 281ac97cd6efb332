"""Reads for images, pages and people: `ports.Reader` on one connection, without locks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql import codec
from adapters.sql.bulk import select_by_keys
from adapters.sql.tables import (
    clusters,
    decisions,
    explanations,
    nodes,
    outbox,
    parked_events,
    partitions,
    placements,
    workloads,
)
from adapters.sql.upkeep import parked_from
from federation.domain.cluster import Cluster, Node
from federation.domain.placement import Placement
from federation.domain.records import Decision, Explanation, Parked, Partition
from federation.domain.workload import Workload, WorkloadPhase
from federation.ports import WorkloadQuery

CHUNK = 5_000


class ViewReads:
    """What the images read: everything once, then what lies above a cursor."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    async def partitions(self) -> dict[str, Partition]:
        rows = await self.connection.execute(select(partitions))
        return {row.source: Partition(row.source, row.position, row.caught_up_ms, row.resets) for row in rows}

    async def positions(self, sources: Sequence[str]) -> dict[str, int]:
        rows = await self.connection.execute(select(partitions).where(partitions.c.source.in_(sources)))
        return {row.source: row.position for row in rows if row.position >= 0}

    async def clusters(self) -> list[Cluster]:
        rows = await self.connection.execute(select(clusters.c.doc).order_by(clusters.c.name))
        return [codec.cluster_from(doc) for doc in rows.scalars()]

    async def cluster_revisions(self) -> dict[str, int]:
        rows = await self.connection.execute(select(clusters.c.name, clusters.c.revision))
        return {row.name: row.revision for row in rows}

    async def clusters_named(self, names: Sequence[str]) -> list[Cluster]:
        query = "SELECT c.doc FROM keys k JOIN clusters c ON c.name = k.a ORDER BY c.name"
        rows = await select_by_keys(self.connection, query, list(names))
        return [codec.cluster_from(row.doc) for row in rows]

    async def cluster(self, name: str) -> Cluster | None:
        found = await self.connection.execute(select(clusters.c.doc).where(clusters.c.name == name))
        doc = found.scalar()
        return codec.cluster_from(doc) if doc else None

    async def nodes_changed(self, after: Mapping[str, int]) -> AsyncIterator[list[tuple[str, Node]]]:
        for source in await self.partitions():
            query = select(nodes.c.cluster, nodes.c.doc).where(
                nodes.c.source == source, nodes.c.position >= after.get(source, 0)
            )
            async with self.connection.stream(query.execution_options(yield_per=CHUNK)) as rows:
                async for chunk in rows.partitions(CHUNK):
                    yield [(row.cluster, codec.node_from(row.doc)) for row in chunk]

    async def nodes_in(self, cluster: str, after: str, limit: int) -> list[Node]:
        query = select(nodes.c.doc).where(nodes.c.cluster == cluster, nodes.c.node > after)
        rows = await self.connection.execute(query.order_by(nodes.c.node).limit(limit))
        return [codec.node_from(doc) for doc in rows.scalars()]

    async def placements_changed(self, after: Mapping[str, int]) -> list[tuple[Placement, int]]:
        """Without cursors all living placements; else rows of the clusters named, above their revision."""
        if not after:
            query = select(placements.c.doc, placements.c.revision).where(placements.c.released == 0)
            rows: Any = await self.connection.execute(query)
        else:
            joined = (
                "SELECT p.doc, p.revision FROM keys k JOIN placements p "
                "ON p.cluster = k.a AND p.revision > CAST(k.b AS BIGINT)"
            )
            names = list(after)
            rows = await select_by_keys(self.connection, joined, names, [str(after[name]) for name in names])
        return [(codec.placement_from(row.doc), row.revision) for row in rows]


class SqlReader(ViewReads):
    """All of `ports.Reader`."""

    async def placements_of(self, ids: Sequence[str]) -> dict[str, list[Placement]]:
        query = "SELECT p.doc FROM keys k JOIN placements p ON p.workload = k.a WHERE p.released = 0 ORDER BY p.id"
        rows = await select_by_keys(self.connection, query, sorted(set(ids)))
        grouped: dict[str, list[Placement]] = {workload: [] for workload in ids}
        for placement in map(codec.placement_from, (row.doc for row in rows)):
            grouped[placement.workload].append(placement)
        return grouped

    async def queue(self, limit: int) -> list[Workload]:
        order = workloads.c.priority.desc(), workloads.c.id
        return await self._workloads(select(workloads.c.doc).where(workloads.c.queued == 1).order_by(*order), limit)

    async def workloads_by_id(self, ids: Sequence[str]) -> list[Workload]:
        query = "SELECT w.doc FROM keys k JOIN workloads w ON w.id = k.a ORDER BY w.id"
        rows = await select_by_keys(self.connection, query, sorted(set(ids)))
        return [codec.workload_from(row.doc) for row in rows]

    async def workload(self, key: str, team: str | None) -> Workload | None:
        query = select(workloads.c.doc).where((workloads.c.id == key) | (workloads.c.name == key))
        if team is not None:
            query = query.where(workloads.c.team == team)
        found = await self._workloads(query.order_by(workloads.c.id), 1)
        return found[0] if found else None

    async def workloads(self, query: WorkloadQuery) -> list[Workload]:
        wanted = select(workloads.c.doc).where(workloads.c.id > query.after)
        for column in ("team", "name", "phase"):
            value = getattr(query, column)
            if value is not None:
                wanted = wanted.where(workloads.c[column] == value)
        return await self._workloads(wanted.order_by(workloads.c.id), query.limit)

    async def workloads_waiting(self, after: str, limit: int) -> list[Workload]:
        short = workloads.c.phase.in_((WorkloadPhase.WAITING.value, WorkloadPhase.DEGRADED.value))
        behind = short, workloads.c.queued == 0, workloads.c.id > after
        return await self._workloads(select(workloads.c.doc).where(*behind).order_by(workloads.c.id), limit)

    async def workloads_left_over(self, after: str, limit: int) -> list[str]:
        phases = workloads.c.phase.in_(phase.value for phase in _HOLDING)
        living = placements.c.workload == workloads.c.id, placements.c.released == 0
        query = select(workloads.c.id).where(
            phases, workloads.c.id > after, ~select(placements.c.id).where(*living).exists()
        )
        return list((await self.connection.execute(query.order_by(workloads.c.id).limit(limit))).scalars())

    async def decision(self, decision_id: str) -> tuple[Decision, Explanation] | None:
        query = (
            select(decisions.c.doc, explanations.c.doc.label("explained"))
            .join_from(decisions, explanations, decisions.c.explanation == explanations.c.id)
            .where(decisions.c.id == decision_id)
        )
        row = (await self.connection.execute(query)).first()
        return (codec.decision_from(row.doc), codec.explanation_from(row.explained)) if row else None

    async def decisions_of(self, workload: str, limit: int) -> list[Decision]:
        query = select(decisions.c.doc).where(decisions.c.workload == workload).order_by(decisions.c.id.desc())
        rows = await self.connection.execute(query.limit(limit))
        return [codec.decision_from(doc) for doc in rows.scalars()]

    async def decisions_latest(self, limit: int) -> list[str]:
        rows = await self.connection.execute(select(decisions.c.id).order_by(decisions.c.id.desc()).limit(limit))
        return list(rows.scalars())

    async def decisions_known(self, ids: Sequence[str]) -> set[str]:
        query = "SELECT d.id FROM keys k JOIN decisions d ON d.id = k.a"
        return {row.id for row in await select_by_keys(self.connection, query, sorted(set(ids)))} if ids else set()

    async def parked(self, limit: int) -> list[Parked]:
        rows = await self.connection.execute(select(parked_events).order_by(parked_events.c.at_ms.desc()).limit(limit))
        return [parked_from(row) for row in rows]

    async def counts(self) -> dict[str, int]:
        phases = await self.connection.execute(select(workloads.c.phase, func.count()).group_by(workloads.c.phase))
        counted = {f"workloads.{phase}": count for phase, count in phases}
        for name, query in _COUNTS.items():
            counted[name] = int((await self.connection.execute(query)).scalar() or 0)
        return counted

    async def _workloads(self, query: Any, limit: int) -> list[Workload]:
        rows = await self.connection.execute(query.limit(limit))
        return [codec.workload_from(doc) for doc in rows.scalars()]


_HOLDING = (WorkloadPhase.DELETING, WorkloadPhase.PLACED, WorkloadPhase.DEGRADED)

_COUNTS = {
    "placements": select(func.count()).select_from(placements).where(placements.c.released == 0),
    "outbox": select(func.count()).select_from(outbox).where(outbox.c.sent_ms == 0),
    "parked": select(func.count()).select_from(parked_events),
}

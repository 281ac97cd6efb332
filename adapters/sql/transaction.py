"""One unit of work on the store: `ports.Transaction` by SQLAlchemy Core on one connection."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql import codec
from adapters.sql.bulk import insert, is_postgresql, select_by_keys, upsert
from adapters.sql.outbox import OutboxVerbs
from adapters.sql.reader import SqlReader
from adapters.sql.tables import (
    audit,
    clusters,
    cycles,
    decisions,
    explanations,
    idempotency,
    leases,
    meta,
    nodes,
    parked_events,
    partitions,
    placements,
    workloads,
)
from adapters.sql.upkeep import UpkeepVerbs
from federation.domain.cluster import Cluster, Node
from federation.domain.errors import Conflict, StaleOffset
from federation.domain.placement import Placement
from federation.domain.records import Audit, Cycle, Decision, Explanation, Idempotent, Parked, Partition
from federation.domain.workload import Workload


class IngestVerbs:
    """What folding a batch reads and writes."""

    def __init__(self, connection: AsyncConnection, channels: set[str]) -> None:
        self.connection = connection
        self.channels = channels

    async def partition(self, source: str) -> Partition:
        found = await self.connection.execute(select(partitions).where(partitions.c.source == source))
        row = found.first()
        return Partition(row.source, row.position, row.caught_up_ms, row.resets) if row else Partition(source)

    async def move_position(self, source: str, expected: int, to: int) -> None:
        if expected < 0:
            await insert(self.connection, partitions, [(source, -1, 0, 0)], ignore=True)
        moved = await self.connection.execute(
            update(partitions)
            .where(partitions.c.source == source, partitions.c.position == expected)
            .values(position=to, resets=partitions.c.resets + int(to < expected))
        )
        if moved.rowcount != 1:
            raise StaleOffset(f"the position of {source} is no longer {expected}")
        self.channels.add("view")

    async def set_caught_up(self, sources: Sequence[str], at_ms: int) -> None:
        await self.connection.execute(
            update(partitions).where(partitions.c.source.in_(sources)).values(caught_up_ms=at_ms)
        )

    async def clusters_of(self, source: str) -> list[str]:
        rows = await self.connection.execute(select(clusters.c.name).where(clusters.c.source == source))
        return list(rows.scalars())

    async def lock_clusters(self, names: Sequence[str]) -> dict[str, Cluster]:
        suffix = " FOR UPDATE OF c" if is_postgresql(self.connection) else ""
        query = f"SELECT c.doc FROM keys k JOIN clusters c ON c.name = k.a ORDER BY c.name{suffix}"
        rows = await select_by_keys(self.connection, query, sorted(set(names)))
        return {cluster.name: cluster for cluster in map(codec.cluster_from, (row.doc for row in rows))}

    async def add_clusters(self, names: Sequence[str]) -> None:
        rows = [codec.cluster_row(Cluster(name=name)) for name in sorted(set(names))]
        await insert(self.connection, clusters, rows, ignore=True)

    async def nodes(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Node]:
        if not keys:
            return {}
        query = "SELECT n.cluster, n.doc FROM keys k JOIN nodes n ON n.cluster = k.a AND n.node = k.b"
        rows = await select_by_keys(self.connection, query, [key[0] for key in keys], [key[1] for key in keys])
        found = ((row.cluster, codec.node_from(row.doc)) for row in rows)
        return {(cluster, node.name): node for cluster, node in found}

    async def node_places(self, cluster: str) -> dict[str, Node]:
        rows = await self.connection.execute(select(nodes.c.doc).where(nodes.c.cluster == cluster))
        return {node.name: node for node in map(codec.node_from, rows.scalars())}

    async def placements(self, ids: Sequence[str]) -> dict[str, Placement]:
        if not ids:
            return {}
        query = "SELECT p.doc FROM keys k JOIN placements p ON p.id = k.a"
        rows = await select_by_keys(self.connection, query, list(ids))
        return {placement.id: placement for placement in map(codec.placement_from, (row.doc for row in rows))}

    async def placements_in(self, cluster: str, *, living: bool = True) -> list[Placement]:
        query = select(placements.c.doc).where(placements.c.cluster == cluster).order_by(placements.c.id)
        if living:
            query = query.where(placements.c.released == 0)
        rows = await self.connection.execute(query)
        return [codec.placement_from(doc) for doc in rows.scalars()]

    async def save_clusters(self, changed: Sequence[Cluster]) -> None:
        await upsert(self.connection, clusters, [codec.cluster_row(cluster) for cluster in changed])
        self.channels.add("view")

    async def save_nodes(self, source: str, position: int, rows: Sequence[tuple[str, Node]]) -> None:
        await upsert(
            self.connection, nodes, [(cluster, node.name, source, position, codec.text(node)) for cluster, node in rows]
        )

    async def save_placements(self, changed: Sequence[tuple[Placement, int]]) -> None:
        await upsert(
            self.connection, placements, [codec.placement_row(placement, revision) for placement, revision in changed]
        )

    async def park(self, parked: Sequence[Parked]) -> None:
        rows = [
            (
                event.source,
                event.offset,
                event.at_ms,
                event.reason,
                event.key,
                codec.text(event.headers),
                event.value,
                0,
            )
            for event in parked
        ]
        await insert(self.connection, parked_events, rows, ignore=True)
        if rows:
            self.channels.add("outbox")


class DecideVerbs(IngestVerbs):
    """What committing a plan reads and writes."""

    async def lock_workloads(self, ids: Sequence[str]) -> dict[str, Workload]:
        suffix = " FOR UPDATE OF w" if is_postgresql(self.connection) else ""
        query = f"SELECT w.doc FROM keys k JOIN workloads w ON w.id = k.a ORDER BY w.id{suffix}"
        rows = await select_by_keys(self.connection, query, sorted(set(ids)))
        return {workload.id: workload for workload in map(codec.workload_from, (row.doc for row in rows))}

    async def placements_of(self, ids: Sequence[str]) -> dict[str, list[Placement]]:
        return await SqlReader(self.connection).placements_of(ids)

    async def save_workloads(self, changed: Sequence[Workload]) -> None:
        await upsert(self.connection, workloads, [codec.workload_row(workload) for workload in changed])
        self.channels.add("view")
        if any(workload.queued for workload in changed):
            self.channels.add("queue")

    async def remove_workloads(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        await self.connection.execute(delete(workloads).where(workloads.c.id.in_(ids)))
        self.channels.add("view")

    async def record_cycle(self, cycle: Cycle, made: Sequence[Decision], explained: Sequence[Explanation]) -> None:
        await insert(self.connection, cycles, [codec.cycle_row(cycle)], ignore=True)
        await insert(self.connection, explanations, [codec.explanation_row(each) for each in explained], ignore=True)
        await insert(self.connection, decisions, [codec.decision_row(decision) for decision in made])


class SqlTransaction(DecideVerbs, OutboxVerbs, UpkeepVerbs):
    """All of `ports.Transaction`."""

    def reader(self) -> SqlReader:
        return SqlReader(self.connection)

    async def add_workload(self, workload: Workload) -> None:
        try:
            async with self.connection.begin_nested():
                await insert(self.connection, workloads, [codec.workload_row(workload)])
        except IntegrityError as error:
            spec = workload.spec
            raise Conflict(f"team {spec.team!r} has a workload named {spec.name!r} already") from error
        self.channels |= {"queue", "view"}

    async def idempotent(self, team: str, key: str) -> Idempotent | None:
        found = await self.connection.execute(
            select(idempotency).where(idempotency.c.team == team, idempotency.c.key == key)
        )
        row = found.mappings().first()
        return Idempotent(**row) if row else None

    async def remember(self, idempotent: Idempotent) -> None:
        row = msgspec.structs.astuple(idempotent)
        await upsert(self.connection, idempotency, [row])

    async def audit(self, entry: Audit) -> None:
        row = (entry.at_ms, entry.who, entry.what, entry.target, entry.outcome)
        await insert(self.connection, audit, [(*row, codec.text(entry.before), codec.text(entry.after))])

    async def generation(self) -> int:
        found = await self.connection.execute(select(meta.c.value).where(meta.c.name == "generation"))
        return int(found.scalar() or 1)

    async def set_generation(self, generation: int) -> None:
        await upsert(self.connection, meta, [("generation", generation)])

    async def take_lease(self, name: str, holder: str, now_ms: int, seconds: float) -> bool:
        """Time is the caller's clock: a lease is for speed, and correctness rests on guards."""
        await insert(self.connection, leases, [(name, holder, 0)], ignore=True)
        until, ends = leases.c.until_ms, now_ms + int(seconds * 1000)
        taken = await self.connection.execute(
            update(leases)
            # One that ends later than any can was taken by a clock that was wrong: nobody waits for that.
            .where(
                leases.c.name == name,
                (leases.c.holder == holder) | (until <= now_ms) | (until > 2 * ends - now_ms),
            )
            .values(holder=holder, until_ms=ends)
        )
        return taken.rowcount == 1

    async def drop_lease(self, name: str, holder: str) -> None:
        await self.connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))

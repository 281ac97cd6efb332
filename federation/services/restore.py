"""What follows a restore of the database: a new generation of orders, and every cluster's inventory awaited (section 6).

The world is ahead of what is on record. Orders of older generations are dropped; those already sent are dropped by
the agents, once they have stored the new generation. Until a cluster's inventory is adopted nothing is decided there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from federation.domain.adoption import awaiting
from federation.domain.cluster import Cluster, ClusterPhase
from federation.domain.placement import Placement
from federation.domain.records import Audit, OutboxRow
from federation.domain.workload import WorkloadKind
from federation.ports import Clock, Store, Transaction
from federation.services.dispatch import RESYNC_TYPE

REASON = "the hub's database was restored"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: the new generation, the clusters whose inventory is awaited, and how many orders were dropped."""

    generation: int
    clusters: tuple[str, ...]
    dropped: int


async def mark_restored(store: Store, clock: Clock) -> Restored:
    """Begin a new generation; one transaction, so that a crash leaves all of it or nothing. Doing it again does no harm."""
    now_ms = clock.now_ms()
    async with store.transaction() as transaction:
        found = await transaction.reader().clusters()
        clusters = await transaction.lock_clusters([cluster.name for cluster in found])
        generation = next_generation(await transaction.generation(), clusters.values(), now_ms)
        await transaction.set_generation(generation)
        dropped = await transaction.drop_orders(generation)
        for cluster in clusters.values():
            await _await_inventory(transaction, cluster, generation, now_ms)
        after = {"generation": generation, "dropped": dropped}
        await transaction.audit(
            Audit(at_ms=now_ms, who="operator", what="database.restored", target="hub", outcome="done", after=after)
        )
    return Restored(generation, tuple(clusters), dropped)


def next_generation(stored: int, clusters: Iterable[Cluster], now_ms: int) -> int:
    """Above every generation that an agent may have stored, be the hub's clock wrong."""
    seen = max((max(cluster.generation, cluster.awaits) for cluster in clusters), default=0)
    return max(stored + 1, now_ms // 1000, seen + 1)


async def _await_inventory(transaction: Transaction, cluster: Cluster, generation: int, now_ms: int) -> None:
    after = awaiting(cluster, generation)
    after = replace(after, revision=cluster.revision + 1)
    if cluster.phase is not ClusterPhase.LEFT:
        reception = replace(after.reception, resync_asked_ms=now_ms, resync_tries=1)
        after = replace(after, reception=reception)
        ask = OutboxRow(cluster=cluster.name, type=RESYNC_TYPE, doc={"reason": REASON}, created_ms=now_ms)
        await transaction.enqueue([ask])
    await transaction.save_clusters([after])
    placements = await transaction.placements_in(cluster.name, living=False)
    deployed = await _deployed_by_callers(transaction, placements)
    changed = [_readied(each, generation if each.id in deployed else 0) for each in placements]
    differing = [new for new, old in zip(changed, placements, strict=True) if new != old]
    await transaction.save_placements([(placement, after.revision) for placement in differing])


async def _deployed_by_callers(transaction: Transaction, placements: Iterable[Placement]) -> set[str]:
    """Placements without orders: what was answered to their callers stands, and nothing sent can come true."""
    living = [placement for placement in placements if not placement.released]
    workloads = await transaction.reader().workloads_by_id(sorted({placement.workload for placement in living}))
    callers = {workload.id for workload in workloads if workload.spec.kind is WorkloadKind.CALLER}
    return {placement.id for placement in living if placement.workload in callers}


def _readied(placement: Placement, adopted: int) -> Placement:
    """Of a released placement the answer to a stray was dropped: it is to be answered again."""
    if placement.released:
        return replace(placement, asks=()) if placement.asks else placement
    return replace(placement, adopted=adopted) if adopted else placement

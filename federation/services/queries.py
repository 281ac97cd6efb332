"""What callers ask: reads in the caller's scope. What belongs to another team is not found, as if it were not there."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from federation.domain.cluster import Cluster
from federation.domain.errors import NotFound
from federation.domain.placement import Placement
from federation.domain.records import Decision, Explanation
from federation.domain.workload import Workload
from federation.ports import Clock, Reader, Store, WorkloadQuery
from federation.services.showing import (
    Census,
    Moment,
    cluster_view,
    decision_view,
    explanation_view,
    node_view,
    parked_view,
    pool_view,
)
from federation.services.views import (
    ClusterView,
    DecisionView,
    ExplanationView,
    NodeView,
    ParkedView,
    PoolView,
)

_BEFORE_ALL: Final = -1


async def find_workload(store: Store, key: str, team: str | None) -> tuple[Workload, list[Placement]]:
    """A workload by id or name, with its placements."""
    async with store.reader() as reader:
        workload = await _seen(reader, key, team)
        return workload, (await reader.placements_of([workload.id])).get(workload.id, [])


async def list_workloads(store: Store, query: WorkloadQuery) -> list[tuple[Workload, list[Placement]]]:
    """A page of workloads with their placements."""
    async with store.reader() as reader:
        found = await reader.workloads(query)
        placements = await reader.placements_of([workload.id for workload in found])
        return [(workload, placements.get(workload.id, [])) for workload in found]


async def explain(store: Store, key: str, team: str | None) -> ExplanationView:
    """The latest explanation of a workload."""
    async with store.reader() as reader:
        workload = await _seen(reader, key, team)
        found = await reader.decision(workload.decision) if workload.decision else None
    if found is None:
        raise NotFound("the workload has not been decided yet")
    return explanation_view(*found)


async def decisions(store: Store, key: str, team: str | None, limit: int) -> list[DecisionView]:
    """The newest decisions about a workload."""
    async with store.reader() as reader:
        workload = await _seen(reader, key, team)
        return [decision_view(decision) for decision in await reader.decisions_of(workload.id, limit)]


async def find_decision(store: Store, decision_id: str, team: str | None) -> tuple[Decision, Explanation]:
    """A decision about a workload of *team*, also about one that is gone."""
    async with store.reader() as reader:
        found = await reader.decision(decision_id)
    if found is None or team not in (None, found[0].spec.team):
        raise NotFound("no such decision")
    return found


async def list_clusters(store: Store, clock: Clock, silent_after_seconds: float) -> list[ClusterView]:
    """All clusters, by name."""
    async with store.reader() as reader:
        clusters = await reader.clusters()
        census = _census(placement for placement, _ in await reader.placements_changed({}))
        now = await moment(reader, clock, silent_after_seconds)
    ordered = sorted(clusters, key=lambda cluster: cluster.name)
    return [cluster_view(cluster, census.get(cluster.name, Census()), now) for cluster in ordered]


async def find_cluster(store: Store, clock: Clock, silent_after_seconds: float, name: str) -> ClusterView:
    """One cluster."""
    async with store.reader() as reader:
        cluster = await reader.cluster(name)
        if cluster is None:
            raise NotFound("no such cluster")
        census = _census(placement for placement, _ in await reader.placements_changed({name: _BEFORE_ALL}))
        now = await moment(reader, clock, silent_after_seconds)
    return cluster_view(cluster, census.get(name, Census()), now)


async def list_nodes(store: Store, name: str, page: tuple[str, int], *, all_teams: bool) -> tuple[list[NodeView], str]:
    """A page of a cluster's nodes after a name, and the name to go on after (empty: no more)."""
    after, limit = page
    async with store.reader() as reader:
        if await reader.cluster(name) is None:
            raise NotFound("no such cluster")
        nodes = await reader.nodes_in(name, after, limit)
    views = [node_view(node, all_teams=all_teams) for node in nodes if not node.gone]
    return views, nodes[-1].name if len(nodes) == limit else ""


async def pool(store: Store, clock: Clock, silent_after_seconds: float) -> PoolView:
    """The pool at this moment."""
    async with store.reader() as reader:
        clusters: list[Cluster] = await reader.clusters()
        now = await moment(reader, clock, silent_after_seconds)
    return pool_view(clusters, now)


async def parked(store: Store, limit: int) -> list[ParkedView]:
    """Records that could not be folded, newest first."""
    async with store.reader() as reader:
        return [parked_view(record) for record in await reader.parked(limit)]


async def _seen(reader: Reader, key: str, team: str | None) -> Workload:
    workload = await reader.workload(key, team)
    if workload is None:
        raise NotFound("no such workload")
    return workload


async def moment(reader: Reader, clock: Clock, silent_after_seconds: float) -> Moment:
    caught_up = {source: partition.caught_up_ms for source, partition in (await reader.partitions()).items()}
    return Moment(now_ms=clock.now_ms(), caught_up_ms=caught_up, silent_after_seconds=silent_after_seconds)


def _census(placements: Iterable[Placement]) -> dict[str, Census]:
    numbers: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for placement in placements:
        if not placement.released:
            numbers[placement.cluster] += 1
            held[placement.cluster] += placement.held
    return {name: Census(numbers[name], held[name]) for name in numbers}

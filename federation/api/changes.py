"""What changed since the last look, read by the clusters' revisions and the queue, as events for the live stream."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from federation.domain.placement import Placement
from federation.domain.workload import Workload, WorkloadPhase
from federation.ports import Clock, Reader, Store
from federation.services.queries import moment
from federation.services.showing import cluster_news, placement_view, workload_view

_LOOK: Final = 200
_MOST_KNOWN: Final = 50_000
CLUSTER_SECONDS: Final = 1.0


class Gone(Struct, frozen=True, rename="camel"):
    """A workload that is no more."""

    id: str
    name: str
    team: str
    phase: str = "deleted"


class Decided(Struct, frozen=True, rename="camel"):
    """A workload has a new decision."""

    id: str
    workload: str
    team: str
    version: int
    phase: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One event of the stream. *team* None concerns everybody."""

    event: str
    team: str | None
    body: Any


class Changes:
    """Remembers how far it has read. A change may be told twice, and several as one; none is left out."""

    def __init__(self, store: Store, clock: Clock, silent_after_seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._silent_after = silent_after_seconds
        self._revisions: dict[str, int] = {}
        self._known: dict[str, Workload] = {}
        self._late: set[str] = set()
        self._told_ms: dict[str, int] = {}

    async def begin(self) -> None:
        """Take what is there now as told."""
        async with self._store.reader() as reader:
            self._revisions = await reader.cluster_revisions()
            self._known = {workload.id: workload for workload in await self._open(reader, set())}

    async def read(self) -> list[Change]:
        """What changed since the last call."""
        async with self._store.reader() as reader:
            revisions = await reader.cluster_revisions()
            moved = {name: self._revisions.get(name, 0) for name in revisions if self._has_moved(name, revisions)}
            rows = await reader.placements_changed(moved) if moved else []
            placements = [row for row, revision in rows if revision > moved.get(row.cluster, revision)]
            changes = await self._of_clusters(reader, moved)
            changes += await self._of_workloads(reader, placements)
        self._revisions = revisions
        return changes

    def _has_moved(self, name: str, revisions: dict[str, int]) -> bool:
        return revisions[name] > self._revisions.get(name, -1)

    async def _of_clusters(self, reader: Reader, moved: Iterable[str]) -> list[Change]:
        """Clusters change with every event of their nodes: each is told at most once a second, and never not at all."""
        now_ms = self._clock.now_ms()
        self._late.update(moved)
        due = [name for name in self._late if now_ms - self._told_ms.get(name, 0) >= CLUSTER_SECONDS * 1000]
        if not due:
            return []
        clusters = await reader.clusters_named(sorted(due))
        now = await moment(reader, self._clock, self._silent_after)
        self._late.difference_update(due)
        self._told_ms.update(dict.fromkeys(due, now_ms))
        return [Change("cluster", None, cluster_news(cluster, now)) for cluster in clusters]

    async def _of_workloads(self, reader: Reader, placements: list[Placement]) -> list[Change]:
        touched = {placement.workload for placement in placements}
        found = {workload.id: workload for workload in await self._open(reader, touched)}
        changes = [
            Change("placement", placement.team, placement_view(placement, found[placement.workload].spec.kind))
            for placement in placements
            if placement.workload in found
        ]
        current = await reader.placements_of(sorted(found))
        for workload in found.values():
            before = self._known.get(workload.id)
            if before == workload and workload.id not in touched:
                continue
            view = workload_view(workload, current.get(workload.id, []))
            changes.append(Change("workload", workload.spec.team, view))
            if workload.decision and (before is None or before.decision != workload.decision):
                changes.append(Change("decision", workload.spec.team, _decided(workload)))
        return changes + self._gone(found)

    async def _open(self, reader: Reader, touched: set[str]) -> list[Workload]:
        """The workloads that may have changed: those touched, those that wait, and those last seen unsettled."""
        unsettled = {workload.id for workload in self._known.values() if _is_unsettled(workload)}
        asked = await reader.workloads_by_id(sorted(touched | unsettled))
        listed = [*await reader.queue(_LOOK), *await reader.workloads_waiting("", _LOOK)]
        return list({workload.id: workload for workload in [*listed, *asked]}.values())

    def _gone(self, found: dict[str, Workload]) -> list[Change]:
        before = self._known
        gone = [workload for workload in before.values() if _is_unsettled(workload) and workload.id not in found]
        for workload in gone:
            del before[workload.id]
        before.update(found)
        while len(before) > _MOST_KNOWN:
            del before[next(iter(before))]
        return [Change("workload", w.spec.team, Gone(w.id, w.spec.name, w.spec.team)) for w in gone]


def _is_unsettled(workload: Workload) -> bool:
    """Whether it will change, perhaps without touching any cluster."""
    waits = workload.phase in (WorkloadPhase.WAITING, WorkloadPhase.DEGRADED, WorkloadPhase.DELETING)
    return waits or workload.queued


def _decided(workload: Workload) -> Decided:
    return Decided(
        id=workload.decision,
        workload=workload.id,
        team=workload.spec.team,
        version=workload.decided,
        phase=str(workload.phase),
        reasons=workload.reasons,
    )

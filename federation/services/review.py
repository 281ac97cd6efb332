"""What the world's news mean for workloads: a hold past its deadline is withdrawn, an end is noted, a loss wakes.

Nothing is placed here: a workload that has to be planned again is marked with the reason, and the next cycle sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from federation.domain.cluster import Cluster, ClusterPhase
from federation.domain.folding import with_holds
from federation.domain.placement import COMPLETE, FAILED, Placement
from federation.domain.workload import ENDED_PHASES, Workload, WorkloadKind, WorkloadPhase, WorkloadStep
from federation.ports import Clock, Store, Transaction
from federation.services.carrying import Moment, withdrawn
from federation.services.image import Image

AVOID_MS: Final = 10 * 60 * 1000
LIMIT: Final = 1_000
_SETTLED: Final = (*ENDED_PHASES, WorkloadPhase.DELETING)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judge:
    """What has to be taken back, as of *now_ms*. Judged twice: on what was read, and on the locked rows."""

    image: Image
    now_ms: int
    deadline_seconds: float

    def condemns(self, workload: Workload, placement: Placement, cluster: Cluster | None) -> bool:
        """Whether *placement* is to be withdrawn."""
        if _kept(workload, placement) or not placement.asks or not placement.asks[-1].order:
            return False
        if cluster is not None and cluster.awaits:
            return False
        return placement.emptied or _is_refused(placement) or self.is_overdue(placement, cluster)

    def is_overdue(self, placement: Placement, cluster: Cluster | None) -> bool:
        """Whether replicas are held for longer than the deadline, in a cluster that is neither silent nor stale (3.5)."""
        if cluster is None or cluster.phase is not ClusterPhase.READY or self.image.is_unsure(cluster):
            return False
        unsure_ms = self.image.unsure_ms.get(cluster.name, 0)
        deadline_ms = self.deadline_seconds * 1000
        # What a clock has stamped ahead that jumped back since is not waited for.
        stamps = (placement.dispatched_ms, placement.held_since_ms, unsure_ms)
        waits_since = max((stamp for stamp in stamps if stamp <= self.now_ms + deadline_ms), default=0)
        return _waits(placement) and self._known_ms(cluster) - waits_since > deadline_ms

    def _known_ms(self, cluster: Cluster) -> int:
        """Up to when *cluster* is known: what stands in the log unread may show that all is well."""
        partition = self.image.partitions.get(cluster.source)
        return self.now_ms if partition is None else min(self.now_ms, partition.caught_up_ms)


async def review(image: Image, store: Store, clock: Clock, deadline_seconds: float) -> None:
    """Look at what the last refresh touched, and at holds whose time is up."""
    judge = Judge(image, clock.now_ms(), deadline_seconds)
    image.note_unsure(judge.now_ms)
    held = list(image.held.values())
    overdue = {each.workload for each in held if judge.is_overdue(each, image.clusters.get(each.cluster))}
    touched = sorted(image.touched)[:LIMIT]
    ids = sorted({*touched, *overdue})
    if not ids:
        return
    async with store.reader() as reader:
        workloads = await reader.workloads_by_id(ids)
        placements = await reader.placements_of([workload.id for workload in workloads])
    for workload in workloads:
        found = placements[workload.id]
        late = any(judge.condemns(workload, each, image.clusters.get(each.cluster)) for each in found)
        if late or _woken(workload, found) or _looked_at(workload, found) is not None or _is_over(workload, found):
            await _settle(store, workload.id, judge)
    # Only now: what was not looked at because the database went away is looked at the next time.
    image.touched.difference_update(touched)


def _waits(placement: Placement) -> bool:
    """Whether replicas that the last order asks for are not bound. What only a rollout's surge holds is not asked back:

    a rollout that stalls is reported, not repeated (3.3). Nor is a floor repeated before it is known what it left.
    """
    if placement.ended or placement.seen.autoscaled or placement.floor_is_open or not placement.asks:
        return False
    lacks = placement.bound < placement.asks[-1].replicas or not placement.seen.version
    return lacks and placement.held > 0 and placement.dispatched_ms > 0


def _is_refused(placement: Placement) -> bool:
    """Whether the member refused what was last asked: no pod is there, and none will be."""
    seen = placement.seen
    answered = bool(placement.asks) and 0 < placement.asks[-1].order <= seen.done
    return answered and bool(seen.refused_reason) and not placement.ended and not seen.live and not placement.bound


def _kept(workload: Workload, placement: Placement) -> bool:
    """What cannot be withdrawn is only told of: whole StatefulSets and Jobs with pods, and what the caller deploys."""
    if workload.spec.kind is WorkloadKind.CALLER or placement.ended or workload.phase in _SETTLED:
        return True
    return placement.bound > 0 and workload.spec.kind is not WorkloadKind.DEPLOYMENT


def _looked_at(workload: Workload, placements: Sequence[Placement]) -> WorkloadStep | None:
    """The step that the placements' state means for the workload, if any."""
    if workload.phase in _SETTLED or workload.queued:
        return None
    conditions = [placement.seen.condition for placement in placements if placement.completions is not None]
    if conditions and FAILED in conditions:
        return WorkloadStep.FAIL
    if conditions and all(condition == COMPLETE for condition in conditions):
        return WorkloadStep.COMPLETE
    lives = workload.phase in (WorkloadPhase.PLACED, WorkloadPhase.DEGRADED)
    if lives and sum(placement.wanted for placement in placements) < workload.assigned:
        return WorkloadStep.LOSE
    return None


def _woken(workload: Workload, placements: Sequence[Placement]) -> str:
    """Why the workload has to be planned again although nothing was lost; empty where it has not.

    A restore has adopted what is not what was decided (section 6); or more stands than was decided, for pods came up
    after all before a withdrawal reached them, and its floor has left them (3.5).
    """
    if workload.phase in ENDED_PHASES or workload.queued:
        return ""
    if any(placement.found for placement in placements):
        return "restored: its members run what was not decided"
    wanted = sum(placement.wanted for placement in placements)
    if workload.phase in _SETTLED or wanted <= workload.assigned or any(each.floor_is_open for each in placements):
        return ""
    return f"{wanted} replicas stand where {workload.assigned} were decided"


def _is_over(workload: Workload, placements: Sequence[Placement]) -> bool:
    return workload.phase is WorkloadPhase.DELETING and not placements and workload.decided == workload.version


async def _settle(store: Store, workload_id: str, judge: Judge) -> None:
    """One workload, under its locks: look again, and write what follows."""
    async with store.transaction() as transaction:
        placements = (await transaction.placements_of([workload_id]))[workload_id]
        clusters = await transaction.lock_clusters([placement.cluster for placement in placements])
        workloads = await transaction.lock_workloads([workload_id])
        placements = (await transaction.placements_of([workload_id]))[workload_id]
        workload = workloads.get(workload_id)
        if workload is None or any(placement.cluster not in clusters for placement in placements):
            return
        if _is_over(workload, placements):
            await transaction.remove_workloads([workload_id])
            return
        after = _stepped(workload, placements, judge.now_ms)
        why = _woken(after, placements)
        if why:
            after = replace(after, wake=why, changed_ms=judge.now_ms)
        for placement in placements:
            if judge.condemns(after, placement, clusters[placement.cluster]):
                after = await _withdraw(transaction, (after, placement), clusters, judge.now_ms)
        if after != workload:
            await transaction.save_workloads([after])


def _stepped(workload: Workload, placements: Sequence[Placement], now_ms: int) -> Workload:
    step = _looked_at(workload, placements)
    if step is None:
        return workload
    _log.info("workload changed by its members", workload=workload.id, name=workload.spec.name, step=step.value)
    after = replace(workload.after(step), changed_ms=now_ms)
    if step is not WorkloadStep.LOSE:
        return after
    running = sum(placement.wanted for placement in placements)
    return replace(after, wake=f"{running} of {workload.spec.replicas} replicas have a cluster")


async def _withdraw(
    transaction: Transaction, subject: tuple[Workload, Placement], clusters: dict[str, Cluster], now_ms: int
) -> Workload:
    """Take back what the member did not bring up, avoid the cluster for a while, and have the rest planned again."""
    workload, placement = subject
    change = withdrawn(workload, placement, Moment(now_ms, workload.decision, _NO_IDS))
    if change is None:
        return workload
    after, order = change
    await transaction.cancel_waiting(placement.id)
    held = with_holds(clusters[placement.cluster], placement, after)
    cluster = clusters[held.name] = replace(held, revision=held.revision + 1)
    await transaction.save_clusters([cluster])
    await transaction.save_placements([(after, cluster.revision)])
    await transaction.enqueue([order])
    if placement.emptied:
        return workload
    failure = told(placement)
    why = f"{cluster.name} {failure}"
    _log.info("placement withdrawn", placement=placement.id, cluster=cluster.name, reason=why)
    avoid = {**workload.avoid, cluster.name: now_ms + AVOID_MS}
    failures = {**workload.failures, cluster.name: failure}
    return replace(workload, wake=why, avoid=avoid, failures=failures, reasons=(why,), changed_ms=now_ms)


def told(placement: Placement) -> str:
    """Why replicas were taken back from a cluster, in the member's own words where it gave any."""
    seen = placement.seen
    words = seen.refused_reason or seen.unschedulable_reason or "the member did not say why"
    return f"did not run {placement.held} of {placement.wanted} replicas: {words}"


class _NoIds:
    """A withdrawal makes no new rows that need an id."""

    def new(self) -> str:
        raise AssertionError("a withdrawal makes nothing new")


_NO_IDS: Final = _NoIds()

"""One scheduling cycle: refresh the image, plan beside the loop, commit what still holds.

What was dropped is in the queue still and planned again; what was dropped twice is planned again alone, under the
locks (protocol 2.2), so that it cannot starve.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from federation.domain.placement import Placement
from federation.domain.records import Cycle
from federation.domain.workload import Workload, WorkloadPhase
from federation.planner.cycle import could_fit, plan_workloads
from federation.planner.plan import PLANNER, Outcome, Plan, Request
from federation.ports import Clock, Compute, Ids, Reader, Store
from federation.services.committing import Basis, Done, commit
from federation.services.image import Image
from federation.services.review import review

BATCH: Final = 500
WAITING_BATCH: Final = 200
MOST_UNADOPTED: Final = 5_000
LEFTOVERS: Final = 5_000
DROPS_BEFORE_LOCKS: Final = 2
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a cycle needs of the world."""

    store: Store
    clock: Clock
    ids: Ids
    compute: Compute
    hold_deadline_seconds: float


@dataclass(slots=True)
class Scheduler:
    """The scheduler's memory between cycles: the image, and how often a workload's decision was dropped.

    What waits is looked at in a sweep, a batch a cycle, begun by whatever changed: *sweeping* is the id behind which
    the next batch begins, None when all have been looked at since the last change. *unadopted* is how many of the queue
    wait for a cluster's inventory; *started* that what changed while no scheduler ran has been looked up.
    """

    image: Image
    drops: dict[str, int] = field(default_factory=dict)
    conflicts: int = 0
    sweeping: str | None = None
    changed_again: bool = False
    unadopted: int = 0
    started: bool = False

    def note_change(self) -> None:
        """Something changed that a waiting workload may want: sweep, and once more if a sweep is under way."""
        if self.sweeping is None:
            self.sweeping = ""
        else:
            self.changed_again = True

    def swept(self, batch: Sequence[Workload]) -> None:
        """A batch of those that wait was looked at."""
        self.sweeping = batch[-1].id if len(batch) == WAITING_BATCH else None
        if self.sweeping is None and self.changed_again:
            self.sweeping, self.changed_again = "", False


async def run_cycle(scheduler: Scheduler, tools: Tools) -> Done:
    """Decide what is queued, and what waits and could now fit."""
    async with tools.store.reader() as reader:
        changed = await scheduler.image.refresh(reader)
        if not scheduler.started:
            await _look_up_leftovers(scheduler, reader)
    await review(scheduler.image, tools.store, tools.clock, tools.hold_deadline_seconds)
    if changed:
        scheduler.note_change()
    async with tools.store.reader() as reader:
        requests = await _requests(scheduler, reader)
    alone = [request for request in requests if scheduler.drops.get(request.workload.id, 0) >= DROPS_BEFORE_LOCKS]
    together = [request for request in requests if scheduler.drops.get(request.workload.id, 0) < DROPS_BEFORE_LOCKS]
    done = await _decide(scheduler, tools, together) if together else Done()
    for request in alone:
        done = _joined(done, await _decide_under_locks(scheduler, tools, request))
    _remember(scheduler, done)
    return done


async def _look_up_leftovers(scheduler: Scheduler, reader: Reader) -> None:
    """Workloads whose last placements ended while no scheduler ran: nothing of them will be touched again."""
    after, found = "", [""]
    while found:
        found = await reader.workloads_left_over(after, LEFTOVERS)
        scheduler.image.touched.update(found)
        after = found[-1] if found else after
    scheduler.started = True


async def _requests(scheduler: Scheduler, reader: Reader) -> list[Request]:
    queued = await reader.queue(BATCH + min(scheduler.unadopted, MOST_UNADOPTED))
    waiting: list[Workload] = []
    if scheduler.sweeping is not None:
        waiting = await reader.workloads_waiting(scheduler.sweeping, WAITING_BATCH)
        scheduler.swept(waiting)
    workloads = {workload.id: workload for workload in (*queued, *waiting)}
    placements = await reader.placements_of(list(workloads))
    unadopted = {key for key in workloads if _is_unadopted(scheduler.image, placements[key])}
    scheduler.unadopted = len(unadopted)
    requests = {
        workload.id: Request(workload=workload, placements=tuple(placements[workload.id]))
        for workload in workloads.values()
        if workload.id not in unadopted
    }
    pool = scheduler.image.pool
    roused = {each.id for each in waiting if each.id in requests and could_fit(pool, requests[each.id])}
    asked = [each.id for each in queued if each.id in requests]
    return [requests[key] for key in dict.fromkeys([*asked, *sorted(roused)])]


def _is_unadopted(image: Image, placements: Sequence[Placement]) -> bool:
    """Whether the workload has replicas of which it is not known what a restore has left: it is planned after that."""
    clusters = (image.clusters.get(placement.cluster) for placement in placements)
    return any(cluster is not None and cluster.awaits for cluster in clusters)


async def _decide(scheduler: Scheduler, tools: Tools, requests: Sequence[Request]) -> Done:
    cycle = _cycle(scheduler.image, tools)
    basis = _basis(scheduler.image, cycle)
    plan: Plan = await tools.compute(_plan, scheduler.image, requests, cycle)
    plan = _worth_writing(plan, requests)
    if not plan.outcomes:
        return Done()
    async with tools.store.transaction() as transaction:
        return await commit(transaction, plan, basis, tools.ids)


async def _decide_under_locks(scheduler: Scheduler, tools: Tools, request: Request) -> Done:
    """Plan one workload while all clusters are locked: nothing can change between the look and the commit."""
    async with tools.store.transaction() as transaction:
        await transaction.lock_clusters(sorted(scheduler.image.clusters))
        await scheduler.image.refresh(transaction.reader())
        workloads = await transaction.lock_workloads([request.workload.id])
        if not workloads:
            return Done()
        placements = await transaction.placements_of(list(workloads))
        ((key, workload),) = workloads.items()
        fresh = Request(workload=workload, placements=tuple(placements[key]))
        cycle = _cycle(scheduler.image, tools)
        plan: Plan = await tools.compute(_plan, scheduler.image, [fresh], cycle)
        return await commit(transaction, plan, _basis(scheduler.image, cycle), tools.ids)


def _plan(image: Image, requests: Sequence[Request], cycle: Cycle) -> Plan:
    return plan_workloads(image.pool, requests, now_ms=cycle.at_ms, seed=cycle.seed, cycle=cycle.id)


def _cycle(image: Image, tools: Tools) -> Cycle:
    now_ms = tools.clock.now_ms()
    return Cycle(
        id=tools.ids.new(),
        at_ms=now_ms,
        seed=now_ms % 2**31,
        planner=PLANNER,
        offsets=dict(image.positions),
        revisions=dict(image.revisions),
    )


def _basis(image: Image, cycle: Cycle) -> Basis:
    guards = {name: (cluster.definition, cluster.decisions) for name, cluster in image.clusters.items()}
    return Basis(cycle, guards)


def _worth_writing(plan: Plan, requests: Sequence[Request]) -> Plan:
    """Without the outcomes that say again what is on record: a workload that waits, still waits."""
    known = {request.workload.id: request.workload for request in requests}
    fresh = tuple(outcome for outcome in plan.outcomes if not _says_nothing_new(known[outcome.workload], outcome))
    return Plan(
        outcomes=fresh,
        explanations=plan.explanations,
        raised=plan.raised,
        seed=plan.seed,
        planner=plan.planner,
    )


def _says_nothing_new(workload: Workload, outcome: Outcome) -> bool:
    short = workload.phase in (WorkloadPhase.WAITING, WorkloadPhase.DEGRADED)
    grows = any(allotment.holds for allotment in outcome.allotments)
    return short and not workload.queued and outcome.status != "placed" and not grows


def _joined(first: Done, second: Done) -> Done:
    return Done((*first.decided, *second.decided), {**first.dropped, **second.dropped})


def _remember(scheduler: Scheduler, done: Done) -> None:
    for decision in done.decided:
        scheduler.drops.pop(decision.workload, None)
    for workload, reason in done.dropped.items():
        scheduler.drops[workload] = scheduler.drops.get(workload, 0) + 1
        scheduler.conflicts += 1
        _log.info("decision dropped", workload=workload, reason=reason, times=scheduler.drops[workload])
    if len(scheduler.drops) > 10_000:
        scheduler.drops.clear()

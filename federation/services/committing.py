"""Commit a plan: decisions, claims, holds and orders in one transaction, guarded (protocol section 2).

Guards compare versions of definitions and decisions, amounts are checked as inequalities on the locked rows. What no
longer holds is dropped, alone, and planned again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from federation.domain.cluster import PODS, Cluster, ClusterPhase
from federation.domain.folding import with_holds
from federation.domain.placement import Placement
from federation.domain.records import Cycle, Decision, OutboxRow
from federation.domain.workload import ENDED_PHASES, Workload, WorkloadPhase, WorkloadSpec, WorkloadStep
from federation.planner.plan import WAITING, Outcome, Plan
from federation.ports import Ids, Transaction
from federation.services.carrying import Moment, carried, with_completions


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan was made on: the cycle's record, and for each cluster (definition, decisions)."""

    cycle: Cycle
    guards: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a plan: workloads decided, those dropped (and why), how many replicas were newly claimed."""

    decided: tuple[Decision, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Locked:
    """The rows of one commit, under their locks, as it changes them."""

    clusters: dict[str, Cluster]
    workloads: dict[str, Workload]
    placements: dict[str, list[Placement]]
    touched: set[str] = field(default_factory=set)
    raised: set[str] = field(default_factory=set)
    changed: dict[str, Placement] = field(default_factory=dict)
    orders: list[OutboxRow] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Change:
    """One outcome worked out against the locked rows, not yet taken over."""

    placements: tuple[Placement, ...]
    orders: tuple[OutboxRow, ...]
    clusters: Mapping[str, Cluster]
    raised: frozenset[str]


async def commit(transaction: Transaction, plan: Plan, basis: Basis, ids: Ids) -> Done:
    """Commit what of *plan* still holds."""
    locked = await lock(transaction, plan)
    decided, dropped = [], {}
    for outcome in plan.outcomes:
        reason = _out_of_date(locked, outcome)
        decision_id = ids.new()
        change = _worked_out(locked, outcome, Moment(basis.cycle.at_ms, decision_id, ids)) if not reason else None
        reason = reason or (_refused(locked, change, basis) if change else "")
        if reason or change is None:
            dropped[outcome.workload] = reason
            continue
        _take_over(locked, change)
        decided.append(_decide(locked, outcome, basis.cycle, decision_id))
    await write(transaction, locked, basis.cycle, decided, plan)
    return Done(tuple(decided), dropped)


async def lock(transaction: Transaction, plan: Plan) -> Locked:
    """Locks in name order: clusters, then workloads; placements belong to their clusters."""
    ids = [outcome.workload for outcome in plan.outcomes]
    chosen = {allotment.cluster for outcome in plan.outcomes for allotment in outcome.allotments}
    clusters = await transaction.lock_clusters(sorted(chosen))
    workloads = await transaction.lock_workloads(ids)
    return Locked(clusters, workloads, await transaction.placements_of(ids))


def _out_of_date(locked: Locked, outcome: Outcome) -> str:
    workload = locked.workloads.get(outcome.workload)
    if workload is None:
        return "the workload is gone"
    if workload.version != outcome.version:
        return f"the workload is at version {workload.version}, planned was {outcome.version}"
    if workload.phase in ENDED_PHASES:
        return f"the workload has {workload.phase}"
    holders = {placement.cluster for placement in locked.placements[workload.id] if not placement.ended}
    missing = holders - locked.clusters.keys()
    return f"{', '.join(sorted(missing))} took a placement meanwhile" if missing else ""


def _worked_out(locked: Locked, outcome: Outcome, moment: Moment) -> Change:
    workload = locked.workloads[outcome.workload]
    before = {placement.cluster: placement for placement in locked.placements[workload.id]}
    after: dict[str, Placement] = {}
    orders = []
    # What waits stays as it is: it is not even given the spec that does not fit, only what the world took ends.
    stays = outcome.status == WAITING
    for allotment in (each for each in outcome.allotments if not (stays and each.replicas)):
        placement, order = carried(workload, before.get(allotment.cluster), allotment, moment)
        if placement is not None:
            after[allotment.cluster] = placement
        if order is not None:
            orders.append(order)
    placements = with_completions(workload.spec, after.values(), before.values(), moment.now_ms)
    return _summed(locked, before, placements, _completed_orders(orders, placements))


def _completed_orders(orders: Sequence[OutboxRow], placements: Sequence[Placement]) -> tuple[OutboxRow, ...]:
    """Orders of Jobs carry their cluster's share of the completions."""
    shares = {placement.id: placement.completions for placement in placements if placement.completions is not None}
    completed = []
    for order in orders:
        share, manifest = shares.get(order.placement), order.doc.get("manifest")
        if share is not None and manifest is not None:
            manifest = {**manifest, "spec": {**manifest.get("spec", {}), "completions": share}}
            order = msgspec.structs.replace(order, doc={**order.doc, "manifest": manifest})
        completed.append(order)
    return tuple(completed)


def _summed(
    locked: Locked, before: Mapping[str, Placement], placements: tuple[Placement, ...], orders: tuple[OutboxRow, ...]
) -> Change:
    clusters: dict[str, Cluster] = {}
    raised: set[str] = set()
    for placement in placements:
        cluster = clusters.get(placement.cluster, locked.clusters[placement.cluster])
        old = before.get(placement.cluster)
        if placement.raises(old):
            raised.add(placement.cluster)
        clusters[placement.cluster] = with_holds(cluster, old, placement)
    return Change(placements, orders, clusters, frozenset(raised))


def _refused(locked: Locked, change: Change, basis: Basis) -> str:
    """Why the change may not be committed: a guard that moved (2.2), or an excess that it would leave (2.3)."""
    for name in sorted(change.clusters):
        if locked.clusters[name].unadopted:
            return f"{name} takes no orders: {locked.clusters[name].unadopted}"
    for name in sorted(change.raised):
        cluster = locked.clusters[name]
        if basis.guards.get(name) != (cluster.definition, cluster.decisions - (name in locked.raised)):
            return f"{name} was changed or decided upon meanwhile"
        if cluster.phase is not ClusterPhase.READY or cluster.stale:
            return f"{name} takes nothing: {cluster.stale or cluster.phase}"
        request = {PODS}.union(*(each.request for each in change.placements if each.cluster == name))
        excess = sorted(change.clusters[name].excess().keys() & request)
        if excess:
            return f"{name} has too little {', '.join(excess)} left"
    return ""


def _take_over(locked: Locked, change: Change) -> None:
    for name, cluster in change.clusters.items():
        first_raise = name in change.raised and name not in locked.raised
        locked.clusters[name] = replace(cluster, decisions=cluster.decisions + first_raise)
        locked.touched.add(name)
    locked.raised |= change.raised
    for placement in change.placements:
        locked.changed[placement.id] = placement
        if placement.version > 1:
            locked.recalled.append(placement.id)
    locked.orders.extend(change.orders)


def _decide(locked: Locked, outcome: Outcome, cycle: Cycle, decision_id: str) -> Decision:
    workload = locked.workloads[outcome.workload]
    decision = decision_of(workload, locked.placements[workload.id], outcome, (decision_id, cycle))
    locked.workloads[workload.id] = _decided(workload, outcome, decision)
    return decision


def decision_of(
    workload: Workload, placements: Sequence[Placement], outcome: Outcome, made: tuple[str, Cycle]
) -> Decision:
    """The record of *outcome*; *made* is its id and the cycle that it came out of."""
    decision_id, cycle = made
    spec = _decided_on(workload)
    return Decision(
        id=decision_id,
        workload=workload.id,
        cycle=cycle.id,
        explanation=outcome.explanation,
        at_ms=cycle.at_ms,
        version=outcome.version,
        total=spec.replicas,
        spec=spec,
        outcome=outcome.status,
        placed={allotment.cluster: allotment.replicas for allotment in outcome.allotments if allotment.replicas},
        previous={each.cluster: each.wanted for each in placements if each.wanted},
        own=outcome.own,
        reasons=outcome.reasons,
        summary=outcome.summary,
    )


def _decided_on(workload: Workload) -> WorkloadSpec:
    """The spec to decide again on: none of its replicas is wanted any more once the workload is deleted."""
    components = workload.spec.components
    if workload.phase is WorkloadPhase.DELETING:
        components = tuple(replace(component, replicas=0) for component in components)
    return replace(workload.spec, manifest=None, components=components)


def _decided(workload: Workload, outcome: Outcome, decision: Decision) -> Workload:
    after = workload
    if workload.phase is not WorkloadPhase.DELETING:
        if outcome.status != "waiting":
            after = after.after(WorkloadStep.PLACE)
        if outcome.status != "placed":
            after = after.after(WorkloadStep.FIND_NO_ROOM)
    return replace(
        after,
        decided=outcome.version,
        decision=decision.id,
        reasons=outcome.reasons,
        # What woke it after this cycle began has not been looked at yet.
        wake=workload.wake if workload.changed_ms > decision.at_ms else "",
        assigned=sum(allotment.replicas for allotment in outcome.allotments),
        changed_ms=decision.at_ms,
        avoid={cluster: until for cluster, until in workload.avoid.items() if until > decision.at_ms},
        failures={each: why for each, why in workload.failures.items() if workload.avoid.get(each, 0) > decision.at_ms},
    )


async def write(
    transaction: Transaction, locked: Locked, cycle: Cycle, decided: Sequence[Decision], plan: Plan
) -> None:
    """Everything that a commit changed, in bulk."""
    if not decided:
        return
    for placement_id in locked.recalled:
        await transaction.cancel_waiting(placement_id)
    for name in locked.touched:
        locked.clusters[name] = replace(locked.clusters[name], revision=locked.clusters[name].revision + 1)
    await transaction.save_clusters([locked.clusters[name] for name in sorted(locked.touched)])
    rows = [(placement, locked.clusters[placement.cluster].revision) for placement in locked.changed.values()]
    await transaction.save_placements(rows)
    changed = [locked.workloads[decision.workload] for decision in decided]
    # An end without any placement is complete: nothing of it will be observed that could have it looked at again.
    over = [each.id for each in changed if each.phase is WorkloadPhase.DELETING and not locked.placements[each.id]]
    await transaction.save_workloads([each for each in changed if each.id not in over])
    await transaction.remove_workloads(over)
    used = {decision.explanation for decision in decided}
    await transaction.record_cycle(cycle, decided, [each for each in plan.explanations if each.id in used])
    await transaction.enqueue(locked.orders)

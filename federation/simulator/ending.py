"""What must be true once nothing goes wrong any more: the view is the truth, nothing is held, and nothing was lost."""

from collections.abc import Iterator

import msgspec

from adapters.memory.cluster import SimulatedCluster
from federation.domain.cluster import Node
from federation.domain.placement import Placement
from federation.domain.resources import parse_offered
from federation.domain.workload import ENDED_PHASES, Workload, WorkloadKind, WorkloadPhase
from federation.simulator.callers import Callers
from federation.simulator.invariants import Invariants
from federation.simulator.world import World

_NODE = msgspec.json.Decoder(Node)


def unsettled(world: World, callers: Callers, invariants: Invariants) -> list[str]:
    """What is not yet as it must be in the end."""
    found = list(_clusters(world, invariants))
    found += [line for member in world.members.values() for line in _nodes(world, member)]
    found += [
        line
        for each in invariants.placements.now.values()
        for line in _placement(world, each, invariants.workloads.now.get(each.workload))
    ]
    found += _workloads(callers, invariants)
    found += _strangers(world, invariants)
    return found


def _clusters(world: World, invariants: Invariants) -> Iterator[str]:
    for name, member in world.members.items():
        cluster = invariants.clusters.now.get(name)
        if cluster is None or cluster.phase != "ready" or cluster.stale:
            yield f"{name} is {cluster and (cluster.stale or cluster.phase)}"
        elif cluster.done != member.orders.done or cluster.done != cluster.next_order - 1:
            yield f"{name} has done {member.orders.done} orders of {cluster.next_order - 1}, {cluster.done} are known"


def _nodes(world: World, member: SimulatedCluster) -> Iterator[str]:
    query = "SELECT node, doc FROM nodes WHERE cluster = ?"
    rows = world.database.raw.execute(query, (member.name,)).fetchall()
    known = {name: seen for name, doc in rows if not (seen := _NODE.decode(doc)).gone}
    if known.keys() != member.nodes.keys():
        yield f"{member.name} has nodes {sorted(member.nodes)}, known are {sorted(known)}"
        return
    for name, node in member.nodes.items():
        told, used = known[name], {key: value for key, value in member.usage.get(name, {}).items() if value}
        bound: dict[str, int] = {}
        for pod in member.pods_on.get(name, {}).values():
            if pod.placement and pod.live:
                bound[pod.placement] = bound.get(pod.placement, 0) + 1
        usable = not node.lost_ms and not node.unschedulable
        if (told.usable, told.allocatable) != (usable, parse_offered(node.allocatable)):
            yield f"{name} is usable={usable}, known as {told.usable}"
        if {key: value for key, value in told.requested.items() if value} != used:
            yield f"{name} has {used} requested, known are {told.requested}"
        if {each: told.bound_of(each) for each in told.bound} != bound:
            yield f"{name} has {bound} bound, known are {told.bound}"


def _placement(world: World, placement: Placement, workload: Workload | None) -> Iterator[str]:
    member = world.members[placement.cluster]
    live = sum(1 for pod in member.pods.values() if pod.placement == placement.id and pod.live)
    if placement.ended and not placement.released:
        yield f"{placement.id} has ended and claims {placement.claim} still"
    if placement.released:
        if live:
            yield f"{placement.id} was released and has {live} pods"
        return
    if placement.seen.live != live:
        yield f"{placement.id} has {live} live pods, known are {placement.seen.live}"
    if placement.held and not _stalls(placement, workload):
        yield f"{placement.id} holds {placement.held} in {placement.cluster} still"


def _stalls(placement: Placement, workload: Workload | None) -> bool:
    """Whether the member says why what is held does not fit, and it is not taken back all the same.

    So it is with a rollout's surge (3.3), and with a StatefulSet or a Job that has pods already: whole, or not at all.
    """
    whole = workload is not None and workload.spec.kind is not WorkloadKind.DEPLOYMENT
    wanted = placement.asks[-1].replicas if placement.asks else 0
    return bool(placement.seen.unschedulable) and (placement.bound >= wanted or (whole and placement.bound > 0))


def _workloads(callers: Callers, invariants: Invariants) -> Iterator[str]:
    for key in callers.accepted:
        workload: Workload | None = invariants.workloads.now.get(key)
        if key in callers.ended and (workload is None or workload.phase is WorkloadPhase.DELETING):
            if workload is not None:
                yield f"{key} is deleting still"
        elif workload is None:
            yield f"{key} was accepted and is gone"
        elif workload.queued:
            yield f"{key} waits to be decided"
        else:
            yield from _standing(workload, invariants)


def _standing(workload: Workload, invariants: Invariants) -> Iterator[str]:
    if workload.phase in ENDED_PHASES:
        return
    if workload.phase is not WorkloadPhase.PLACED:
        if not workload.reasons:
            yield f"{workload.id} is {workload.phase} without a reason"
        return
    mine = [each for each in invariants.placements.now.values() if each.workload == workload.id and not each.ended]
    wanted = sum(each.wanted for each in mine)
    if wanted != workload.spec.replicas and workload.spec.completions is None:
        yield f"{workload.id} is placed with {wanted} of {workload.spec.replicas} replicas"


def _strangers(world: World, invariants: Invariants) -> Iterator[str]:
    for member in world.members.values():
        for found in member.objects.values():
            placement: Placement | None = invariants.placements.now.get(found.placement)
            if placement is None or placement.released:
                yield f"{member.name} has {found.name} of {found.placement}, which claims nothing"

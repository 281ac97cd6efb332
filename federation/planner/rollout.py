"""A new revision in place: how far it may grow, and how many pods it may add on the way (protocol 3.3).

The claim is replicas + surge over both revisions, each resource at the larger request. It must hold for the sums of the
cluster, as a commit checks it, and as well as can be said for its nodes: the room of the workload's own old pods is
given back, and what then fits on the nodes, at the new request, bounds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from federation.domain.placement import UNNAMED, Ask, AskKind, Placement
from federation.domain.resources import subtract
from federation.domain.workload import WorkloadSpec
from federation.planner.claims import Claims
from federation.planner.estimate import Estimates, Shape
from federation.planner.filling import fill, keys_of
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """*fits*: more pods of the new shape beside all that is claimed; *on_nodes*: all that fit once the old ones are gone.

    *room*: what the sums leave of each resource. *resized*: the request changes too, so it may not fit in place.
    """

    placement: Placement
    member: Member
    spec: WorkloadSpec
    shape: Shape
    fits: int
    on_nodes: int
    room: Mapping[str, int]
    resized: bool

    @property
    def least_surge(self) -> int:
        return min(1, self.spec.surge)

    def most(self, upto: int) -> int:
        """The most replicas, of *upto*, that may be had with the surge that it takes to begin; -1 where none."""
        return self._largest(-1, upto, self.least_surge)

    def surge(self, replicas: int) -> int:
        """How many pods the rollout may add to *replicas*: its part of what the whole workload may add, rounded up."""
        part = -(-self.spec.surge * replicas // max(replicas, self.spec.replicas))
        return self._largest(0, part, replicas)

    def after(self, pods: int) -> Placement:
        """The placement once *pods* of the new revision are asked for."""
        version = self.placement.version + 1
        ask = Ask(version, pods, AskKind.WANTED, revision=self.spec.revision, requests=self.shape.amounts)
        return self.placement.asking(ask)

    def raised(self, pods: int) -> dict[str, int]:
        """By how much the amounts held change when *pods* are claimed."""
        return subtract(self.after(pods).held_amounts(), self.placement.held_amounts())

    def _largest(self, low: int, high: int, beside: int) -> int:
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._admits(middle + beside) else (low, middle - 1)
        return low

    def _admits(self, pods: int) -> bool:
        if not self.resized:
            return pods <= self.placement.claim + self.fits
        within = all(amount <= self.room[name] for name, amount in self.raised(pods).items() if amount > 0)
        return within and (pods <= self.placement.claim or pods <= self.on_nodes)


def rolls(placement: Placement, spec: WorkloadSpec, amounts: Mapping[str, int]) -> bool:
    """Whether what runs there is of another revision or size, or is still on its way to this one."""
    # An end that was not sent yet is taken back: what it would have deleted stands there still.
    asks = placement.recalled().asks if placement.ended else placement.asks
    if not asks or asks[-1].kind is AskKind.GONE:
        return False
    last = asks[-1]
    return last.revision != spec.revision or last.surge > 0 or placement.request != amounts


def stands(rollout: Rollout, replicas: int) -> bool:
    """Whether the last order asks for just this already."""
    last = rollout.placement.asks[-1]
    same = last.revision == rollout.spec.revision and last.requests == rollout.shape.amounts
    return same and last.replicas == replicas


def rollout_of(pool: Pool, estimates: Estimates, placement: Placement, spec: WorkloadSpec, shape: Shape) -> Rollout:
    """How the new revision may come into the cluster where *placement* runs."""
    member = pool.members[placement.cluster]
    resized = placement.request != shape.amounts
    names = {*placement.request, *shape.amounts}
    return Rollout(
        placement=placement,
        member=member,
        spec=spec,
        shape=shape,
        fits=int(estimates.fits(shape, np.array([member.id], np.intp))[0]),
        on_nodes=_on_nodes(pool, estimates, placement, shape) if resized else 0,
        room={name: int(pool.room[pool.row(name), member.id]) for name in names},
        resized=resized,
    )


def without_room(rollout: Rollout) -> Rollout:
    """The same in a cluster that takes nothing new."""
    return replace(rollout, fits=0, on_nodes=0, room=dict.fromkeys(rollout.room, 0))


def claim_rollout(pool: Pool, estimates: Estimates, claims: Claims, rollout: Rollout, pods: int) -> dict[str, int]:
    """Claim *pods* of the new revision; by node, those newly claimed, and those that no single node takes."""
    before, after, member = rollout.placement, rollout.after(pods), rollout.member
    added = after.held - before.held
    if not rollout.resized:
        return claims.take(rollout.shape, [(member, added)])[0] if added > 0 else {}
    grown = subtract(after.growth, before.growth)
    claims.lessen(member, _offsets(member, member.bound_on(before.id)), grown)
    claims.lessen(member, _offsets(member, before.holds), subtract(after.request, before.request))
    claims.charge_amounts(member, rollout.raised(pods))
    if added <= 0:
        return {}
    request = pool.request(after.request)
    block = slice(member.start, member.end)
    fits = (pool.table.free[request.rows, block] // request.column).min(axis=0)
    fits = np.maximum(fits, 0) * estimates.admitted(rollout.shape, block)
    offsets, counts = fill(keys_of(fits, np.uint32(0)), added)
    claims.put(member.start + offsets, request, counts)
    named = {member.names[at]: taken for at, taken in zip(offsets.tolist(), counts.tolist(), strict=True)}
    rest = added - sum(named.values())
    return {**named, UNNAMED: rest} if rest else named


def _on_nodes(pool: Pool, estimates: Estimates, placement: Placement, shape: Shape) -> int:
    """How many pods of *shape* the nodes take once all that *placement* has there is gone."""
    member, table = pool.members[placement.cluster], pool.table
    block = slice(member.start, member.end)
    free = table.free[:, block].copy()
    bound = _offsets(member, member.bound_on(placement.id))
    _give_back(pool, free, bound, {**placement.request, "pods": 1})
    _give_back(pool, free, _offsets(member, placement.holds), {**placement.request, "pods": 1})
    fits = (free[shape.request.rows] // shape.request.column).min(axis=0)
    whole: Int64 = np.maximum(fits, 0) * estimates.admitted(shape, block)
    return 0 if shape.missing else int(whole.sum())


def _give_back(pool: Pool, free: Int64, counts: Mapping[int, int], amounts: Mapping[str, int]) -> None:
    offsets = np.array(list(counts), np.intp)
    replicas = np.array(list(counts.values()), np.int64)
    for name, amount in amounts.items():
        free[pool.row(name), offsets] += amount * replicas


def _offsets(member: Member, counts: Mapping[str, int]) -> dict[int, int]:
    """*counts* by offset, on nodes that are in use."""
    return {member.offsets[node]: count for node, count in counts.items() if member.slot(node) is not None}

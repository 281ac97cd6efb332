"""Workloads of several components: all of them in one cluster, as a whole, or none.

How many whole sets fit is first bounded by each component alone; whether a set really fits is then tried, claim by claim,
in the cluster that holds the workload already, else in the roomiest first.
"""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from federation.domain.placement import Placement
from federation.domain.resources import add, scale
from federation.planner.candidates import Case, Part
from federation.planner.claims import Claims
from federation.planner.estimate import Estimates
from federation.planner.journal import Slots
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.plan import Allotment
from federation.planner.pool import Pool
from federation.planner.rollout import claim_rollout, rollout_of, rolls, stands
from federation.planner.shortage import shortage


def sets_that_fit(pool: Pool, estimates: Estimates, parts: Sequence[Part], members: Slots) -> Int64:
    """A bound on how many whole sets fit in each of *members*: by each component alone, and by the sums for all."""
    least = np.full(len(members), 2**31, np.int64)
    needed: dict[str, int] = {}
    for part in parts:
        if part.replicas:
            estimates.refresh(part.shape)
            least = np.minimum(least, estimates.fits(part.shape, members) // part.replicas)
            needed = add(needed, scale(part.shape.amounts, part.replicas))
    for name, amount in needed.items():
        if name in pool.table.rows:
            least = np.minimum(least, pool.room[pool.table.rows[name], members] // amount)
    return np.maximum(least, 0)


def lacking(pool: Pool, estimates: Estimates, parts: Sequence[Part], member: Member) -> tuple[str, str]:
    """(a few words, the reason) why no set fits: the first component that does not."""
    for part in parts:
        fits = int(estimates.fits(part.shape, np.array([member.id], np.intp))[0])
        if fits == 0 < part.replicas:
            words, reason = shortage(pool, estimates, part.shape, member)
            return words, f"{part.name}: {reason}"
        if fits < part.replicas:
            return "no room for a set", f"{part.name} wants {part.replicas}, fits {fits}"
    return "no room for a set", "each component fits, but not all of them together"


class Trial:
    """Claims a whole set in one cluster, or leaves no trace."""

    def __init__(self, pool: Pool, estimates: Estimates, claims: Claims, case: Case) -> None:
        self._pool, self._estimates, self._claims, self._case = pool, estimates, claims, case
        self._held = {(placement.cluster, placement.component): placement for placement in case.living}

    def claim(self, member: Member, parts: Sequence[Part]) -> list[Allotment]:
        """What each component is to have there; empty where they do not all fit."""
        mark = self._claims.mark()
        allotments: list[Allotment] = []
        for part in parts:
            self._estimates.refresh(part.shape)
            self._claims.book()
            allotment = self._part(member, part, self._held.get((member.name, part.name)))
            if allotment is None:
                self._claims.undo(mark)
                return []
            allotments.append(allotment)
        return allotments

    def settle(self, parts: Sequence[Part]) -> tuple[int, list[Allotment]]:
        """(the index of the candidate, what each component is to have there); -1 where no candidate takes the set.

        The columns are left as they proved: nothing fits where the set did not.
        """
        case = self._case
        case.columns = replace(case.columns, fits=case.columns.fits.copy())
        home = int(case.columns.previous.argmax()) if case.columns.previous.any() else -1
        roomiest = np.argsort(-case.columns.fits, kind="stable")
        order = [home] if home >= 0 else roomiest[case.columns.fits[roomiest] >= case.total].tolist()
        for at in order:
            allotments = self.claim(case.members[at], parts)
            if home >= 0:
                case.columns.fits[at] = max(0, case.total - int(case.columns.previous[at])) if allotments else 0
            if allotments:
                return at, allotments
            case.columns.fits[at] = 0
        return -1, []

    def rest(self, chosen: Sequence[Allotment]) -> list[Allotment]:
        """What becomes of placements that are no part of the set: they end."""
        used = {(allotment.cluster, allotment.component) for allotment in chosen}
        return [
            Allotment(cluster, 0, component=name) for cluster, name in sorted(self._held) if (cluster, name) not in used
        ]

    def unchanged(self) -> list[Allotment]:
        """What holds while the set waits; where the cluster has left there is nothing."""
        members = self._pool.members
        return [
            Allotment(
                cluster, placement.wanted if cluster in members and not members[cluster].has_left else 0, component=name
            )
            for (cluster, name), placement in sorted(self._held.items())
        ]

    def _part(self, member: Member, part: Part, placement: Placement | None) -> Allotment | None:
        spec, closed = self._case.spec, member.name in self._case.kept
        if placement is not None and rolls(placement, spec, part.shape.amounts):
            rollout = rollout_of(self._pool, self._estimates, placement, spec, part.shape)
            if stands(rollout, part.replicas):
                return Allotment(member.name, part.replicas, {}, placement.asks[-1].surge, part.name)
            if closed or rollout.most(part.replicas) < part.replicas:
                return None
            surge = rollout.surge(part.replicas)
            holds = claim_rollout(self._pool, self._estimates, self._claims, rollout, part.replicas + surge)
            return Allotment(member.name, part.replicas, holds, surge, part.name)
        added = part.replicas - (placement.claim if placement is not None else 0)
        room = int(self._estimates.fits(part.shape, np.array([member.id], np.intp))[0])
        if added > 0 and (closed or added > room):
            return None
        holds = self._claims.take(part.shape, [(member, added)])[0] if added > 0 else {}
        return Allotment(member.name, part.replicas, holds, 0, part.name)

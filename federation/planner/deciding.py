"""How each workload of a cycle is decided: candidates, division, claims, and the words for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from federation.planner.candidates import Case, Part, enter_history, leave, open_case
from federation.planner.claims import Claims
from federation.planner.constraints import constraints_of
from federation.planner.dividing import Division, divide
from federation.planner.estimate import estimates_of
from federation.planner.explain import ROLLOUT_WAITS, SET_WAITS
from federation.planner.filters import AVOIDED
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.plan import PARTIAL, PLACED, WAITING, Allotment, Outcome, Request
from federation.planner.pool import Pool
from federation.planner.rollout import Rollout, claim_rollout, rollout_of, rolls, stands, without_room
from federation.planner.sharing import Basis, Bools, Explanations, division_reasons
from federation.planner.summary import (
    partial_reasons,
    placed_summary,
    plural,
    smallest_change,
    waiting_reasons,
    waiting_summary,
)
from federation.planner.together import Trial, sets_that_fit

_FOR_NOW: Final = frozenset({"cordoned", "not adopted", "silent", "stale", "tainted"})


class Planning:
    """The state of one cycle: what was claimed so far, and what was explained."""

    def __init__(self, pool: Pool, now_ms: int, cycle: str) -> None:
        self.claims = Claims(pool)
        self._pool, self._now_ms = pool, now_ms
        self._estimates = estimates_of(pool)
        self.explanations = Explanations(pool, self._estimates, self.claims, cycle)

    def decide(self, request: Request, parts: tuple[Part, ...]) -> Outcome:
        """The outcome for one workload; what it claims is taken from the pool until the cycle ends."""
        case = self._open(request, parts)
        if len(parts) > 1:
            return self._decide_together(case)
        rollouts = self._rollouts(case) if case.holders else {}
        division = self._divide(case, rollouts)
        counts = division.counts if division.counts is not None else case.columns.previous
        basis = self.explanations.basis(case, counts)
        blocked = _blocked(case, counts, rollouts) if division.counts is not None else {}
        if division.counts is None or blocked:
            return self._wait(case, division, basis, blocked)
        return self._place(case, division, counts, basis, rollouts)

    def would_change(self, request: Request, parts: tuple[Part, ...]) -> bool:
        """Whether a decision would place more than there is, or begin a rollout."""
        case = self._open(request, parts)
        if len(parts) > 1:
            at, allotments = Trial(self._pool, self._estimates, self.claims, case).settle(parts)
            return at >= 0 and any(allotment.holds for allotment in allotments)
        rollouts = self._rollouts(case) if case.holders else {}
        counts = self._divide(case, rollouts).counts
        if counts is None or _blocked(case, counts, rollouts):
            return False
        begins = any(
            not stands(each, int(counts[case.index(name)])) for name, each in rollouts.items() if name not in case.gone
        )
        return begins or bool((counts > case.columns.previous).any())

    def _open(self, request: Request, parts: tuple[Part, ...]) -> Case:
        constraints = constraints_of(self._pool, request.workload.spec)
        if request.placements or self._pool.is_tight or len(parts) > 1:
            self.claims.book()
        if len(parts) == 1:
            self._estimates.refresh(parts[0].shape)
            estimate = self._estimates.fits(parts[0].shape, constraints.ids)
        else:
            sets = sets_that_fit(self._pool, self._estimates, parts, constraints.ids)
            estimate = sets * request.workload.spec.replicas
        case = open_case(request, parts, constraints, estimate, self._now_ms)
        if request.placements or request.workload.avoid:
            enter_history(case, self._pool, self._estimates)
        return case

    def _decide_together(self, case: Case) -> Outcome:
        """All components in one cluster, or none."""
        trial = Trial(self._pool, self._estimates, self.claims, case)
        basis = self.explanations.basis(case, case.columns.previous)
        at, allotments = trial.settle(case.parts) if case.total else (-1, [])
        counts = np.zeros(len(case.members), np.int64)
        if case.total and at < 0:
            waiting = self._wait(case, Division(counts=None), basis, _set_waits(case))
            return replace(waiting, allotments=tuple(trial.unchanged()))
        chosen = [(at, case.total)] if case.total else []
        counts[[at for at, _ in chosen]] = case.total
        reasons = division_reasons(case, Division(counts=counts))
        return Outcome(
            workload=case.request.workload.id,
            version=case.request.workload.version,
            status=PLACED,
            allotments=(*allotments, *trial.rest(allotments)),
            summary=placed_summary(case, chosen, case.total, case.total),
            explanation=basis[0].id,
            own=self.explanations.own(case, counts, basis, reasons),
        )

    def _rollouts(self, case: Case) -> dict[str, Rollout]:
        """The holders where another revision or request comes; they take as many as that may have in place."""
        found: dict[str, Rollout] = {}
        for name, placement in case.holders.items():
            if name in case.gone or not rolls(placement, case.spec, case.shape.amounts):
                continue
            rollout = rollout_of(self._pool, self._estimates, placement, case.spec, case.shape)
            found[name] = without_room(rollout) if name in case.kept else rollout
            if name not in case.kept:
                upto = max(case.total, placement.wanted)
                case.columns.fits[case.index(name)] = max(0, rollout.most(upto) - placement.wanted)
        return found

    def _divide(self, case: Case, rollouts: Mapping[str, Rollout]) -> Division:
        """Divide; where a new size does not fit in place, without that cluster, until the rest does."""
        division = divide(case.spec, case.total, case.columns)
        for name, rollout in sorted(rollouts.items()):
            if division.counts is None or name in case.kept or not rollout.resized:
                continue
            replicas = int(division.counts[case.index(name)])
            if replicas and not stands(rollout, replicas) and rollout.most(replicas) < replicas:
                leave(case, name, "the new request does not fit in place")
                return self._divide(case, {other: kept for other, kept in rollouts.items() if other != name})
        return division

    def _place(
        self, case: Case, division: Division, counts: Int64, basis: tuple[Basis, Bools], rollouts: Mapping[str, Rollout]
    ) -> Outcome:
        used = counts.nonzero()[0].tolist()
        chosen = list(zip(used, counts[used].tolist(), strict=True))
        placed = sum([replicas for _, replicas in chosen])
        short = sum([wants - fits for _, wants, fits in division.short])
        wanted = placed + short if short else max(case.total, placed)
        own = self.explanations.own(case, counts, basis, division_reasons(case, division))
        return Outcome(
            workload=case.request.workload.id,
            version=case.request.workload.version,
            status=PARTIAL if placed < wanted else PLACED,
            allotments=self._allot(case, chosen, rollouts),
            reasons=partial_reasons(division, placed, wanted) if placed < wanted else (),
            summary=placed_summary(case, chosen, placed, wanted),
            explanation=basis[0].id,
            own=own,
        )

    def _allot(
        self, case: Case, chosen: Sequence[tuple[int, int]], rollouts: Mapping[str, Rollout]
    ) -> tuple[Allotment, ...]:
        wanted = [(case.members[at], replicas) for at, replicas in chosen]
        if not case.holders:
            holds = self.claims.take(case.shape, wanted) if wanted else []
            return tuple([Allotment(member.name, n, taken) for (member, n), taken in zip(wanted, holds, strict=True)])
        allotments = {name: Allotment(name, 0) for name in case.holders}
        for name, replicas in [(member.name, replicas) for member, replicas in wanted if member.name in rollouts]:
            allotments[name] = self._roll(name, rollouts[name], replicas)
        scaled = [(member, replicas) for member, replicas in wanted if member.name not in rollouts]
        allotments.update(self._scale(case, scaled))
        return tuple(allotments[name] for name in sorted(allotments))

    def _scale(self, case: Case, wanted: Sequence[tuple[Member, int]]) -> dict[str, Allotment]:
        """Claim what each member is to have beyond what is claimed there already."""
        claimed = {name: placement.claim for name, placement in case.holders.items()}
        added = [(member, replicas - claimed.get(member.name, 0)) for member, replicas in wanted]
        rising = [(member, count) for member, count in added if count > 0]
        taken = self.claims.take(case.shape, rising) if rising else []
        holds = {member.name: held for (member, _), held in zip(rising, taken, strict=True)}
        return {member.name: Allotment(member.name, n, holds.get(member.name, {})) for member, n in wanted}

    def _roll(self, name: str, rollout: Rollout, replicas: int) -> Allotment:
        if stands(rollout, replicas):
            return Allotment(name, replicas, {}, rollout.placement.asks[-1].surge)
        surge = rollout.surge(replicas)
        holds = claim_rollout(self._pool, self._estimates, self.claims, rollout, replicas + surge)
        return Allotment(name, replicas, holds, surge)

    def _wait(self, case: Case, division: Division, basis: tuple[Basis, Bools], blocked: Mapping[str, str]) -> Outcome:
        """Nothing changes, but for what the world has taken already."""
        shortages = {name: reason for name, (_, reason) in basis[0].shortages.items()}
        words = Counter(word for word, _ in case.constraints.refused.values()) + basis[0].words
        words.update(AVOIDED for _ in case.shunned)
        avoided = {name: reason for name, (word, reason) in case.kept.items() if word == AVOIDED}
        reasons = waiting_reasons(case, division, {**shortages, **case.shunned, **avoided})
        change = smallest_change(case, division, self._takers(case))
        return Outcome(
            workload=case.request.workload.id,
            version=case.request.workload.version,
            status=WAITING,
            allotments=tuple(Allotment(name, self._staying(case, name)) for name in sorted(case.holders)),
            reasons=tuple(f"{name}: {reason}" for name, reason in sorted(blocked.items())) or reasons,
            summary=_blocked_summary(case, blocked) or waiting_summary(case, division, words, change),
            explanation=basis[0].id,
            own=self.explanations.own(
                case, case.columns.previous, basis, {**division_reasons(case, division), **blocked}
            ),
        )

    def _staying(self, case: Case, name: str) -> int:
        """What a holder keeps while the workload waits."""
        member = self._pool.members.get(name)
        return 0 if member is None or member.has_left else case.holders[name].wanted

    def _takers(self, case: Case) -> dict[str, int]:
        """What would fit in clusters that take nothing for a reason that may pass."""
        refused = case.constraints.refused if len(case.parts) == 1 else {}
        return {
            name: int(case.shape.fits[self._pool.members[name].id])
            for name, (word, _) in refused.items()
            if word in _FOR_NOW
        }


def _blocked(case: Case, counts: Int64, rollouts: Mapping[str, Rollout]) -> dict[str, str]:
    """The rollouts that cannot even begin, with the reason."""
    blocked: dict[str, str] = {}
    for name, rollout in rollouts.items():
        replicas = int(counts[case.index(name)]) if name not in case.gone else 0
        if not replicas or stands(rollout, replicas) or rollout.most(replicas) == replicas:
            continue
        why = case.kept[name][1] if name in case.kept else f"no room for {plural(rollout.least_surge, 'more pod')}"
        blocked[name] = f"{ROLLOUT_WAITS}: {why}"
    return blocked


def _set_waits(case: Case) -> dict[str, str]:
    """Where a set stays as it is, since it does not fit as it should be."""
    home = case.columns.previous.nonzero()[0].tolist()
    return {case.columns.names[at]: f"{SET_WAITS}: not all components fit there" for at in home}


def _blocked_summary(case: Case, blocked: Mapping[str, str]) -> str:
    if not blocked:
        return ""
    kept = int(case.columns.previous.sum())
    return f"{kept} of {max(case.total, kept)} stay as they are: {', '.join(sorted(blocked))} cannot take what is asked for"

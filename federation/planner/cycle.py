"""One planning cycle: a window of workloads in turn, each lessening what the next one sees; nothing is changed for good."""

from collections import Counter
from collections.abc import Mapping, Sequence

from federation.planner.candidates import Case, enter_history, leave, open_case
from federation.planner.claims import Claims
from federation.planner.constraints import constraints_of
from federation.planner.dividing import Division, divide
from federation.planner.estimate import Shape, estimates_of
from federation.planner.explain import ROLLOUT_WAITS
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.plan import PARTIAL, PLACED, WAITING, Allotment, Outcome, Plan, Request
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

_FOR_NOW = frozenset({"cordoned", "silent", "stale", "tainted"})


def plan_workloads(pool: Pool, requests: Sequence[Request], *, now_ms: int, seed: int, cycle: str) -> Plan:
    """What is to become of each workload. The pool is left as it was."""
    shapes = [prepare(pool, request) for request in requests]
    pool.settle()
    planning = Planning(pool, now_ms, cycle)
    try:
        outcomes = tuple(planning.decide(request, shape) for request, shape in zip(requests, shapes, strict=True))
    finally:
        planning.claims.undo()
    raised = {name: pool.decisions_of(name) for name in sorted(planning.claims.raised)}
    return Plan(outcomes=outcomes, explanations=tuple(planning.explanations.made), raised=raised, seed=seed)


def could_fit(pool: Pool, request: Request) -> bool:
    """Whether it is worth while to plan a waiting workload again: a cluster that may take it has room for one more."""
    shape = prepare(pool, request)
    pool.settle()
    estimates = estimates_of(pool)
    estimates.refresh(shape)
    return bool(estimates.fits(shape, constraints_of(pool, request.workload.spec).ids).any())


def prepare(pool: Pool, request: Request) -> Shape:
    """The shape of the request; every column that deciding on it may need is there from then on."""
    spec = request.workload.spec
    shape = estimates_of(pool).shape(spec.components[0])
    for placement in request.placements:
        if rolls(placement, spec, shape.amounts):
            for name in {*placement.request, *shape.amounts}:
                pool.row(name)
    return shape


class Planning:
    """The state of one cycle: what was claimed so far, and what was explained."""

    def __init__(self, pool: Pool, now_ms: int, cycle: str) -> None:
        self.claims = Claims(pool)
        self._pool, self._now_ms = pool, now_ms
        self._estimates = estimates_of(pool)
        self.explanations = Explanations(pool, self._estimates, self.claims, cycle)

    def decide(self, request: Request, shape: Shape) -> Outcome:
        """The outcome for one workload; what it claims is taken from the pool until the cycle ends."""
        constraints = constraints_of(self._pool, request.workload.spec)
        self._estimates.refresh(shape)
        if request.placements or self._pool.is_tight:
            self.claims.book()
        case = open_case(request, shape, constraints, self._estimates.fits(shape, constraints.ids), self._now_ms)
        if request.placements or request.workload.avoid:
            enter_history(case, self._pool, self._estimates)
        rollouts = self._rollouts(case) if case.holders else {}
        division = self._divide(case, rollouts)
        counts = division.counts if division.counts is not None else case.columns.previous
        basis = self.explanations.basis(case, counts)
        blocked = _blocked(case, counts, rollouts) if division.counts is not None else {}
        if division.counts is None or blocked:
            return self._wait(case, division, basis, blocked)
        return self._place(case, division, counts, basis, rollouts)

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
        words.update("avoided" for _ in case.shunned)
        reasons = waiting_reasons(case, division, {**shortages, **case.shunned})
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
        refused = case.constraints.refused
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


def _blocked_summary(case: Case, blocked: Mapping[str, str]) -> str:
    if not blocked:
        return ""
    kept = int(case.columns.previous.sum())
    return f"{kept} of {max(case.total, kept)} stay as they are: {', '.join(sorted(blocked))} cannot begin the rollout"

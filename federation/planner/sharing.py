"""The explanations of one cycle: one for each shape and set of rules, and for each decision what differs from it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.domain.records import Explanation, Verdict
from federation.domain.workload import WorkloadPhase
from federation.planner.candidates import Case
from federation.planner.claims import Claims
from federation.planner.dividing import Division
from federation.planner.estimate import Estimates
from federation.planner.explain import (
    DELETED,
    Bare,
    age_seconds,
    gone_verdict,
    shared_verdicts,
    shunned_verdict,
    verdicts_of,
)
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.pool import Pool
from federation.planner.shortage import shortage
from federation.planner.together import lacking

_FEW_DIFFERENCES: Final = 16
_TAKEN: Final = "full", "full: decisions of this cycle took the rest"


Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Basis:
    """*estimate*: what the explanation states; *shortages*: (words, reason) of the candidates where nothing fits."""

    id: str
    estimate: Int64
    shortages: Mapping[str, tuple[str, str]]

    def lacking(self, cluster: str) -> str:
        """Why nothing more fits in a candidate."""
        return self.shortages.get(cluster, _TAKEN)[1]

    @property
    def words(self) -> Counter[str]:
        """How many candidates are short, by what they lack."""
        return Counter(word for word, _ in self.shortages.values())


class Explanations:
    """What has been explained so far in this cycle."""

    def __init__(self, pool: Pool, estimates: Estimates, claims: Claims, cycle: str) -> None:
        self.made: list[Explanation] = []
        self._pool, self._estimates, self._claims, self._cycle = pool, estimates, claims, cycle
        self._ages: dict[bytes, list[float]] = {}
        self._bases: dict[tuple[bytes, bytes], Basis] = {}

    def basis(self, case: Case, counts: Int64) -> tuple[Basis, Bools]:
        """The explanation for the shape and rules of *case*, and which candidates' estimates differ from it.

        A new one where the cycle has changed too much since; what is used (*counts*) has a verdict of its own anyway.
        """
        key = (case.key, case.constraints.key)
        basis = self._bases.get(key)
        if basis is not None:
            differing = basis.estimate != case.estimate
            changed, few = int(np.count_nonzero(differing)), max(_FEW_DIFFERENCES, len(case.estimate) // 2)
            if changed <= few or changed <= few + int(np.count_nonzero(counts)):
                return basis, differing
        basis = self._bases[key] = self._explain(case)
        return basis, np.zeros(len(case.estimate), np.bool_)

    def own(
        self, case: Case, counts: Int64, basis: tuple[Basis, Bools], reasons: Mapping[str, str]
    ) -> tuple[Verdict, ...]:
        """The verdicts on which the decision differs from *basis*; *counts* are what it leaves each candidate."""
        shared, differing = basis
        bare = Bare(case.spec, case.columns, self._ages_of(case))
        if not (case.holders or case.shunned):
            at = np.logical_or(differing, counts, out=differing).nonzero()[0].tolist()
            return tuple(verdicts_of(bare, at, counts, reasons, shared.lacking))
        at = self._differing(case, differing, counts)
        verdicts = verdicts_of(bare, at, counts, reasons, shared.lacking)
        verdicts += [shunned_verdict(case, name) for name in case.shunned]
        verdicts += [gone_verdict(case, name, self._pool.members.get(name)) for name in case.gone]
        return tuple(sorted(verdicts, key=lambda verdict: verdict.cluster))

    def _ages_of(self, case: Case) -> Sequence[float]:
        """The ages of the candidates."""
        if case.members is case.constraints.members:
            return self._ages_of_all(case)
        return [age_seconds(member, case.now_ms) for member in case.members]

    def _ages_of_all(self, case: Case) -> Sequence[float]:
        """The ages of the candidates under the rules, kept for all that share them."""
        rules = case.constraints
        ages = self._ages.get(rules.key)
        if ages is None:
            ages = self._ages[rules.key] = [age_seconds(member, case.now_ms) for member in rules.members]
        return ages

    def _differing(self, case: Case, differing: Bools, counts: Int64) -> list[int]:
        """The candidates of which the decision has something of its own to say."""
        other, place = differing.tolist(), case.constraints.at
        return [
            at
            for at, name in enumerate(case.columns.names)
            if counts[at] or name in case.holders or name not in place or other[place[name]]
        ]

    def _explain(self, case: Case) -> Basis:
        shortages = {}
        for at in np.flatnonzero(case.estimate == 0).tolist():
            member = case.constraints.members[at]
            taken = member.name in self._claims.raised
            shortages[member.name] = _TAKEN if taken else self._shortage(case, member)
        basis = Basis(f"{self._cycle}.{len(self.made)}", case.estimate, shortages)
        reasons = {name: reason for name, (_, reason) in shortages.items()}
        verdicts = shared_verdicts(case, self._ages_of_all(case), reasons)
        self.made.append(Explanation(id=basis.id, cycle=self._cycle, at_ms=case.now_ms, verdicts=verdicts))
        return basis

    def _shortage(self, case: Case, member: Member) -> tuple[str, str]:
        if len(case.parts) > 1:
            return lacking(self._pool, self._estimates, case.parts, member)
        return shortage(self._pool, self._estimates, case.shape, member)


def division_reasons(case: Case, division: Division) -> dict[str, str]:
    """What the decision says of candidates beside the numbers."""
    if case.request.workload.phase is WorkloadPhase.DELETING:
        return dict.fromkeys(case.holders, DELETED)
    reasons = {name: reason for name, (_, reason) in case.kept.items()}
    reasons.update({name: f"wants {wants}, fits {fits}" for name, wants, fits in division.short})
    return reasons

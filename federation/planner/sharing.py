"""The explanations of one cycle: one for each shape and set of rules, and for each decision what differs from it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from federation.domain.records import Explanation, Verdict
from federation.domain.workload import WorkloadPhase
from federation.planner.candidates import Case
from federation.planner.claims import Claims
from federation.planner.dividing import Division
from federation.planner.estimate import Estimates
from federation.planner.explain import DELETED, gone_verdict, own_verdict, shared_verdicts, shunned_verdict
from federation.planner.nodes import Int64
from federation.planner.pool import Pool
from federation.planner.shortage import shortage

_FEW_DIFFERENCES = 16
_TAKEN = "full", "full: decisions of this cycle took the rest"


@dataclass(frozen=True, slots=True)
class Basis:
    """*estimate*: what the explanation states; *shortages*: (words, reason) of the candidates where nothing fits."""

    id: str
    estimate: Int64
    shortages: Mapping[str, tuple[str, str]]

    @property
    def words(self) -> Counter[str]:
        """How many candidates are short, by what they lack."""
        return Counter(word for word, _ in self.shortages.values())


class Explanations:
    """What has been explained so far in this cycle."""

    def __init__(self, pool: Pool, estimates: Estimates, claims: Claims, cycle: str) -> None:
        self.made: list[Explanation] = []
        self._pool, self._estimates, self._claims, self._cycle = pool, estimates, claims, cycle
        self._bases: dict[tuple[str, str], Basis] = {}

    def basis(self, case: Case) -> Basis:
        """The explanation for the shape and rules of *case*; a new one where the cycle has changed too much since."""
        key = (case.shape.id, case.constraints.key)
        basis = self._bases.get(key)
        few = max(_FEW_DIFFERENCES, len(case.estimate) // 2)
        if basis is None or np.count_nonzero(basis.estimate != case.estimate) > few:
            basis = self._bases[key] = self._explain(case)
        return basis

    def own(self, case: Case, basis: Basis, counts: Int64, reasons: Mapping[str, str]) -> tuple[Verdict, ...]:
        """The verdicts on which the decision differs from *basis*; *counts* are what it leaves each candidate."""
        verdicts = {name: shunned_verdict(case, name) for name in case.shunned}
        for name in case.gone:
            verdicts[name] = gone_verdict(case, name, self._pool.members.get(name))
        changed = np.flatnonzero(basis.estimate != case.estimate).tolist()
        concerned = {case.constraints.names[at] for at in changed} - verdicts.keys()
        concerned.update(case.columns.names[at] for at in np.flatnonzero(counts).tolist())
        concerned.update(name for name in case.holders if name not in verdicts)
        for name in concerned:
            at = case.index(name)
            reason = reasons.get(name) or ("" if counts[at] or case.columns.fits[at] else _TAKEN[1])
            verdicts[name] = own_verdict(case, at, int(counts[at]), reason)
        return tuple(verdicts[name] for name in sorted(verdicts))

    def _explain(self, case: Case) -> Basis:
        shortages = {}
        for at in np.flatnonzero(case.estimate == 0).tolist():
            member = case.constraints.members[at]
            taken = member.name in self._claims.raised
            shortages[member.name] = _TAKEN if taken else shortage(self._pool, self._estimates, case.shape, member)
        basis = Basis(f"{self._cycle}.{len(self.made)}", case.estimate, shortages)
        reasons = {name: reason for name, (_, reason) in shortages.items()}
        everyone = (self._pool.members[name] for name in sorted(self._pool.members))
        verdicts = shared_verdicts(case, reasons, everyone)
        self.made.append(Explanation(id=basis.id, cycle=self._cycle, at_ms=case.now_ms, verdicts=verdicts))
        return basis


def division_reasons(case: Case, division: Division) -> dict[str, str]:
    """What the decision says of candidates beside the numbers."""
    if case.request.workload.phase is WorkloadPhase.DELETING:
        return dict.fromkeys(case.holders, DELETED)
    reasons = {name: reason for name, (_, reason) in case.kept.items()}
    reasons.update({name: f"wants {wants}, fits {fits}" for name, wants, fits in division.short})
    return reasons

"""Why a decision fell as it did: a verdict for every cluster, shared where it can be, and the decision computed again.

An explanation holds for all decisions of one cycle with the same shape and rules; each decision adds only the clusters in
which it differs: those that it uses or used, and those where earlier decisions of the cycle left less room. A verdict
bears what reached the divider, so that `recompute` comes to the same counts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

import numpy as np
from msgspec import Struct

from federation.domain.records import Decision, Explanation, Verdict
from federation.domain.workload import Strategy, WorkloadSpec
from federation.planner.candidates import Case
from federation.planner.dividing import Columns, divide
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.plan import CHOSEN, FEASIBLE, REFUSED

AT_HOME: Final = 100
ROLLOUT_WAITS: Final = "rollout waits"
SET_WAITS: Final = "the set waits"
DELETED: Final = "the workload is deleted"
_SAFE: Final = "/.-_"


def merge(decision: Decision, explanation: Explanation) -> list[Verdict]:
    """The verdicts on all clusters, by name: the shared ones, and where the decision has its own, those."""
    verdicts = {verdict.cluster: verdict for verdict in (*explanation.verdicts, *decision.own)}
    return [verdicts[name] for name in sorted(verdicts)]


def recompute(spec: WorkloadSpec, verdicts: Iterable[Verdict]) -> dict[str, int]:
    """The replicas of each cluster, divided again from the columns that *verdicts* hold."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.cluster)
    before = {verdict.cluster: verdict.previous for verdict in ordered if verdict.previous}
    if any(verdict.reason.startswith((ROLLOUT_WAITS, SET_WAITS)) for verdict in ordered):
        return before
    if any(verdict.reason == DELETED for verdict in ordered):
        return {}
    columns = _columns([verdict for verdict in ordered if verdict.verdict != REFUSED])
    counts = divide(spec, spec.replicas, columns).counts
    if counts is None:
        return before
    return {name: count for name, count in zip(columns.names, counts.tolist(), strict=True) if count}


def shared_verdicts(case: Case, ages: Sequence[float], shortages: Mapping[str, str]) -> tuple[Verdict, ...]:
    """What holds of each cluster for every workload with the rules and the shape of *case*."""
    rules = case.constraints
    columns = Columns(
        names=rules.names,
        fits=case.estimate,
        previous=rules.nothing,
        weights=rules.weights,
        groups=rules.groups,
        holds=False,
    )
    verdicts = verdicts_of(Bare(case.spec, columns, ages), range(len(rules.names)), rules.nothing, shortages)
    if not rules.refusing:
        return tuple(verdicts)
    for member in rules.refusing:
        fits, age = int(case.shape.fits[member.id]), age_seconds(member, case.now_ms)
        verdicts.append(Verdict(member.name, REFUSED, rules.refused[member.name][1], 0, fits, 0, 0, age))
    return tuple(sorted(verdicts, key=lambda verdict: verdict.cluster))


class Bare(Struct, frozen=True):
    """Of a case, what verdicts on candidates are made of; *ages* in seconds, by candidate."""

    spec: WorkloadSpec
    columns: Columns
    ages: Sequence[float]


def verdicts_of(
    bare: Bare, at: Sequence[int], counts: Int64, reasons: Mapping[str, str], full: Callable[[str], str] | None = None
) -> list[Verdict]:
    """What is said of the candidates at the indices *at*: chosen, feasible, or of no use for want of room.

    The score is the static weight, or whether the cluster holds the workload already. *full* says why there is no room.
    """
    columns, ages, nothing = bare.columns, bare.ages, [0] * len(at)
    names, groups = columns.names, columns.groups
    texts = [reasons.get(names[i], "") for i in at] if reasons else [""] * len(at)
    spare = REFUSED if _divided_by_room(bare.spec) else FEASIBLE
    fits, wanted = columns.fits[at].tolist(), counts[at].tolist()
    before = columns.previous[at].tolist() if columns.holds else nothing
    scores = [AT_HOME if previous else 0 for previous in before] if columns.holds else nothing
    if bare.spec.rules.strategy is Strategy.STATIC:
        scores = columns.weights[at].tolist()
    if full is not None and 0 in fits:
        texts = [
            text if text or room or prior else full(names[i])
            for i, text, room, prior in zip(at, texts, fits, before, strict=True)
        ]
    if groups:
        texts = [_joined(groups[i], text) for i, text in zip(at, texts, strict=True)]
    return [
        Verdict(names[i], CHOSEN if n else FEASIBLE if room or prior else spare, text, n, room, prior, score, ages[i])
        for i, text, n, room, prior, score in zip(at, texts, wanted, fits, before, scores, strict=True)
    ]


def shunned_verdict(case: Case, name: str) -> Verdict:
    """What the decision says of a cluster that its workload avoids."""
    member = case.constraints.members[case.constraints.at[name]]
    fits = int(case.estimate[case.constraints.at[name]])
    return Verdict(name, REFUSED, case.shunned[name], 0, fits, 0, 0, age_seconds(member, case.now_ms))


def gone_verdict(case: Case, name: str, member: Member | None) -> Verdict:
    """What the decision says of a cluster where its replicas cannot stay; while it waits they do all the same."""
    held, left = case.held_in(name), member is None or member.has_left
    reason = case.gone[name] + (f"; {held} replicas were there" if left else "")
    age = age_seconds(member, case.now_ms) if member is not None else 0.0
    return Verdict(name, REFUSED, reason, 0, 0, 0 if left else held, 0, age)


def age_seconds(member: Member, now_ms: int) -> float:
    """How old what is known of the cluster is."""
    return max(0, now_ms - member.cluster.observed_ms) / 1000


def _divided_by_room(spec: WorkloadSpec) -> bool:
    """Whether a cluster without room is as good as none; copies and static shares do not look at room."""
    return spec.single or len(spec.components) > 1 or spec.rules.strategy in (Strategy.DYNAMIC, Strategy.AGGREGATED)


def _columns(candidates: Sequence[Verdict]) -> Columns:
    return Columns(
        names=tuple(verdict.cluster for verdict in candidates),
        fits=np.array([verdict.fits for verdict in candidates], np.int64),
        previous=np.array([verdict.previous for verdict in candidates], np.int64),
        weights=np.array([verdict.score for verdict in candidates], np.int64),
        groups=tuple(_read(verdict.reason) for verdict in candidates),
    )


def _joined(groups: Mapping[str, str], reason: str) -> str:
    return "; ".join(part for part in (_written(groups), reason) if part)


def _written(groups: Mapping[str, str]) -> str:
    """The groups that the spread counts; the cluster itself needs no mention."""
    pairs = ((by, group) for by, group in groups.items() if by != "cluster")
    return ", ".join(f"{quote(by, _SAFE)}={quote(group, _SAFE)}" for by, group in pairs)


def _read(reason: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in reason.partition(";")[0].split(", "))
    return {unquote(by): unquote(group) for by, equals, group in pairs if equals}

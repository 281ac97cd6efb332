"""What the clusters are to all workloads with the same rules: refused with a reason, or candidates in order of name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from federation.domain.workload import Strategy, WorkloadSpec
from federation.planner.filters import refusal, unmatched
from federation.planner.journal import Slots
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.pool import Pool

_MOST_KEPT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """*refused*: (word, reason) by name; *refusing*: the same clusters, those that have left apart. *at*: a candidate's index.

    By candidate: *members*, *names*, *ids*, *weights*, *groups*, and in *nothing* zeros."""

    key: bytes
    refused: Mapping[str, tuple[str, str]]
    refusing: tuple[Member, ...]
    members: tuple[Member, ...]
    names: tuple[str, ...]
    at: Mapping[str, int]
    ids: Slots
    weights: Int64
    nothing: Int64
    groups: tuple[Mapping[str, str], ...]


def constraints_of(pool: Pool, spec: WorkloadSpec) -> Constraints:
    """The clusters under the rules of *spec*; kept until what defines a cluster changes."""
    kept = _kept(pool)
    rules = spec.rules
    parts = (rules.strategy, rules.weights, rules.clusters, rules.cluster_tolerations, rules.spread, spec.single)
    key = msgspec.msgpack.encode((parts, spec.api, spec.manifest is not None))
    found = kept.get(key)
    if found is None:
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        found = kept[key] = _judge(pool, spec, key)
    return found


def weight_of(spec: WorkloadSpec, member: Member) -> int:
    """The largest static weight among the rules that match; all weigh the same where there is no rule."""
    rules = spec.rules.weights
    matching = (rule.weight for rule in rules if unmatched(rule.clusters, member.cluster) is None)
    return max(matching, default=0) if rules else 1


def groups_of(spec: WorkloadSpec, member: Member) -> dict[str, str]:
    """The group of the cluster for each field that the workload is spread by."""
    found = ((constraint.by, member.cluster.group(constraint.by)) for constraint in spec.rules.spread)
    return {by: group for by, group in found if group}


def _kept(pool: Pool) -> dict[bytes, Constraints]:
    kept = pool.caches.get("constraints")
    if not isinstance(kept, _Kept) or kept.definition != pool.definition:
        kept = pool.caches["constraints"] = _Kept(pool.definition)
    return kept.by_key


class _Kept:
    def __init__(self, definition: int) -> None:
        self.definition = definition
        self.by_key: dict[bytes, Constraints] = {}


def _judge(pool: Pool, spec: WorkloadSpec, key: bytes) -> Constraints:
    refused: dict[str, tuple[str, str]] = {}
    members: list[Member] = []
    for name in sorted(pool.members):
        member = pool.members[name]
        reason = refusal(spec, member.cluster, member.silent)
        if reason is None:
            members.append(member)
        else:
            refused[name] = reason
    static = spec.rules.strategy is Strategy.STATIC
    return Constraints(
        key=key,
        refused=refused,
        refusing=tuple(member for member in map(pool.members.__getitem__, refused) if not member.has_left),
        members=tuple(members),
        names=tuple(member.name for member in members),
        at={member.name: index for index, member in enumerate(members)},
        ids=np.array([member.id for member in members], np.intp),
        weights=np.array([weight_of(spec, member) if static else 0 for member in members], np.int64),
        nothing=np.zeros(len(members), np.int64),
        groups=tuple(groups_of(spec, member) for member in members) if spec.rules.spread else (),
    )

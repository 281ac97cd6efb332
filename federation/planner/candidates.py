"""One workload before the pool: its candidates in columns, what holds it already, and why others do not take it."""

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from federation.domain.placement import Placement
from federation.domain.workload import Strategy, WorkloadPhase, WorkloadSpec
from federation.planner.constraints import Constraints, groups_of, weight_of
from federation.planner.dividing import Columns
from federation.planner.estimate import Estimates, Shape
from federation.planner.filters import AVOIDED, avoided, lost, refusal, tainted
from federation.planner.member import Member
from federation.planner.nodes import Int64
from federation.planner.plan import Request
from federation.planner.pool import Pool


class Part(Struct, frozen=True):
    """One component of the workload: so many pods of one shape."""

    name: str
    replicas: int
    shape: Shape


class Case(Struct, kw_only=True):
    """*holders*: the placement that runs in each cluster; *kept*: those of them that take nothing new, with the reason.

    *gone*: holders that must be left, with the reason. *shunned*: other clusters that the workload avoids.
    *members*: the candidates, as in *columns*; *estimate*: what fits beside all claims, by candidate of the rules.
    """

    request: Request
    total: int
    parts: tuple[Part, ...]
    constraints: Constraints
    now_ms: int
    holders: dict[str, Placement] = {}
    kept: dict[str, tuple[str, str]] = {}
    gone: dict[str, str] = {}
    shunned: dict[str, str] = {}
    members: tuple[Member, ...] = ()
    columns: Columns
    estimate: Int64

    @property
    def key(self) -> bytes:
        """What tells the pods of this workload from those of others."""
        if len(self.parts) == 1:
            return self.shape.key
        return b"|".join([b"%d" % part.replicas + part.shape.key for part in self.parts])

    @property
    def shape(self) -> Shape:
        """The shape of the first component, which mostly is the only one."""
        return self.parts[0].shape

    @property
    def living(self) -> list[Placement]:
        """The placements that have not ended."""
        return [placement for placement in self.request.placements if not (placement.ended or placement.released)]

    def held_in(self, cluster: str) -> int:
        """Replicas that the last decision wanted there, of all components."""
        return sum(placement.wanted for placement in self.living if placement.cluster == cluster)

    @property
    def spec(self) -> WorkloadSpec:
        return self.request.workload.spec

    def index(self, name: str) -> int:
        """Where a candidate stands in the columns."""
        if self.members is self.constraints.members:
            return self.constraints.at[name]
        return self.columns.names.index(name)


def open_case(
    request: Request, parts: tuple[Part, ...], constraints: Constraints, estimate: Int64, now_ms: int
) -> Case:
    """The case as it is for whoever holds nothing and avoids no cluster."""
    workload = request.workload
    return Case(
        request=request,
        total=0 if workload.phase is WorkloadPhase.DELETING else workload.spec.replicas,
        parts=parts,
        constraints=constraints,
        now_ms=now_ms,
        members=constraints.members,
        estimate=estimate,
        columns=Columns(
            names=constraints.names,
            fits=estimate,
            previous=constraints.nothing,
            weights=constraints.weights,
            groups=constraints.groups,
            holds=False,
        ),
    )


def enter_history(case: Case, pool: Pool, estimates: Estimates) -> None:
    """What the workload holds and what it avoids. What a holder claims beyond its replicas counts as room there."""
    case.holders = {placement.cluster: placement for placement in case.living}
    _sort_holders(case, pool)
    _shun(case)
    staying = case.holders.keys() - case.gone.keys()
    if case.shunned or not staying <= case.constraints.at.keys():
        _gather(case, pool, estimates)
    else:
        case.columns = replace(
            case.columns, fits=case.estimate.copy(), previous=np.zeros_like(case.estimate), holds=True
        )
    _add_holders(case, staying)


def leave(case: Case, cluster: str, reason: str) -> None:
    """Decide without *cluster*, whose replicas go elsewhere."""
    case.gone[cluster] = reason
    at = case.index(cluster)
    keep = np.arange(len(case.columns.names)) != at
    columns = case.columns
    case.members = tuple(member for index, member in enumerate(case.members) if index != at)
    case.columns = Columns(
        names=tuple(name for name in columns.names if name != cluster),
        fits=columns.fits[keep],
        previous=columns.previous[keep],
        weights=columns.weights[keep],
        groups=tuple(group for index, group in enumerate(columns.groups) if index != at),
    )


def _sort_holders(case: Case, pool: Pool) -> None:
    for name in case.holders:
        member = pool.members.get(name)
        reason = lost(case.spec, member.cluster if member else None)
        if reason is not None:
            case.gone[name] = reason
            continue
        refused = case.constraints.refused.get(name)
        if refused is not None and member is not None:
            refused = refusal(case.spec, member.cluster, member.silent, but=tainted)
        avoidance = avoided(case.request.workload, name, case.now_ms)
        if refused is None and avoidance is not None:
            refused = AVOIDED, avoidance
        if refused is not None:
            case.kept[name] = refused


def _shun(case: Case) -> None:
    for name in case.request.workload.avoid:
        if name in case.constraints.at and name not in case.holders:
            reason = avoided(case.request.workload, name, case.now_ms)
            if reason is not None:
                case.shunned[name] = reason


def _gather(case: Case, pool: Pool, estimates: Estimates) -> None:
    """The candidates of the rules, less those shunned, and holders that the rules alone would refuse."""
    candidates = case.constraints.at.keys() - case.shunned.keys() - case.gone.keys()
    names = tuple(sorted(candidates | (case.holders.keys() - case.gone.keys())))
    case.members = tuple(pool.members[name] for name in names)
    static = case.spec.rules.strategy is Strategy.STATIC
    fits = estimates.fits(case.shape, np.array([member.id for member in case.members], np.intp))
    case.columns = Columns(
        names=names,
        fits=fits,
        previous=np.zeros(len(names), np.int64),
        weights=np.array([weight_of(case.spec, member) if static else 0 for member in case.members], np.int64),
        groups=tuple(groups_of(case.spec, member) for member in case.members) if case.spec.rules.spread else (),
    )


def _add_holders(case: Case, staying: Iterable[str]) -> None:
    fits, previous = case.columns.fits, case.columns.previous
    for name in staying:
        at, wanted = case.index(name), case.held_in(name)
        previous[at] = wanted
        fits[at] = 0 if name in case.kept else fits[at] + max(0, case.holders[name].claim - wanted)

"""From records to views: what readers are shown of workloads, clusters, nodes and decisions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from federation.domain.cluster import Cluster, ClusterPhase, Node, Orphan
from federation.domain.member import PLACEMENT_LABEL
from federation.domain.placement import COMPLETE, Placement
from federation.domain.records import Decision, Explanation, Parked, Verdict
from federation.domain.resources import Amounts, format_amount, format_amounts
from federation.domain.workload import Workload, WorkloadKind, WorkloadPhase
from federation.services.views import (
    AmountsView,
    ClusterBrief,
    ClusterNews,
    ClusterView,
    DecisionView,
    ExplanationView,
    NodeView,
    OrdersView,
    OrphanView,
    ParkedView,
    PlacementView,
    PoolView,
    VerdictView,
    WorkloadView,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What turns times into ages: now, when each source's consumer last stood at its end, and what silence is."""

    now_ms: int
    caught_up_ms: Mapping[str, int]
    silent_after_seconds: float

    def silent(self, cluster: Cluster) -> bool:
        """Whether *cluster* was not heard of for too long, as far as the log has been read."""
        return cluster.silent(self.caught_up_ms.get(cluster.source, 0), self.silent_after_seconds)

    def age_seconds(self, cluster: Cluster) -> float | None:
        """Seconds since anything was observed; None when nothing ever was."""
        return max(0, self.now_ms - cluster.observed_ms) / 1000 if cluster.observed_ms else None


@dataclass(frozen=True, slots=True)
class Census:
    """How many placements live in a cluster, and how many of their replicas are held."""

    placements: int = 0
    held: int = 0


def time_of(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


# --- workloads -------------------------------------------------------------------------------------------------------


def workload_view(workload: Workload, placements: Iterable[Placement]) -> WorkloadView:
    """A workload with its living placements; what its members refuse or cannot schedule shows in phase and reasons."""
    spec = workload.spec
    living = sorted((p for p in placements if not p.released), key=lambda p: (p.cluster, p.component, p.id))
    troubles = tuple(trouble for placement in living for trouble in _troubles(placement))
    hurt = workload.phase is WorkloadPhase.PLACED and bool(troubles)
    return WorkloadView(
        id=workload.id,
        name=spec.name,
        team=spec.team,
        phase=str(WorkloadPhase.DEGRADED if hurt else workload.phase),
        version=workload.version,
        decided=workload.decided,
        replicas=spec.replicas,
        priority=spec.priority,
        kind=str(spec.kind),
        decision=workload.decision,
        placements=tuple(placement_view(placement, spec.kind) for placement in living),
        reasons=(*workload.reasons, *troubles),
        created_at=time_of(workload.created_ms),
        changed_at=time_of(workload.changed_ms),
        lease_until=None if workload.lease_until_ms is None else time_of(workload.lease_until_ms),
    )


def placement_view(placement: Placement, kind: WorkloadKind) -> PlacementView:
    """One placement; *kind* tells whether the caller deploys it."""
    return PlacementView(
        id=placement.id,
        workload=placement.workload,
        cluster=placement.cluster,
        component=placement.component,
        version=placement.version,
        replicas=placement.wanted,
        held=placement.held,
        bound=placement.bound,
        ready=placement.seen.ready,
        phase=_phase(placement),
        pod_labels={PLACEMENT_LABEL: placement.id} if kind is WorkloadKind.CALLER else {},
    )


def _phase(placement: Placement) -> str:
    if placement.ended:
        return "ending"
    if placement.seen.refused:
        return "refused"
    if placement.finished:
        return "completed" if placement.seen.condition == COMPLETE else "failed"
    return "running" if placement.bound or not placement.wanted else "ordered"


def _troubles(placement: Placement) -> Iterable[str]:
    if placement.ended:
        return
    seen = placement.seen
    for count, word, reason in (
        (seen.refused, "refused", seen.refused_reason),
        (seen.unschedulable, "unschedulable", seen.unschedulable_reason),
    ):
        if count:
            yield f"{placement.cluster}: {count} {word}" + (f": {reason}" if reason else "")


# --- clusters --------------------------------------------------------------------------------------------------------


def cluster_view(cluster: Cluster, census: Census, moment: Moment) -> ClusterView:
    """A cluster as known at *moment*."""
    return ClusterView(
        name=cluster.name,
        phase=str(cluster.phase),
        kind=cluster.kind,
        kubernetes_version=cluster.version,
        labels=cluster.labels,
        taints=cluster.taints,
        cordoned=cluster.cordoned,
        silent=moment.silent(cluster),
        stale=cluster.unadopted or cluster.stale or None,
        age_seconds=moment.age_seconds(cluster),
        nodes=cluster.nodes,
        resources=amounts_view(cluster.known, cluster.used, cluster.held),
        placements=census.placements,
        held=census.held,
        unbound=sum(pods.count for pods in cluster.unbound),
        orders=OrdersView(generation=cluster.generation, done=cluster.done) if cluster.acts else None,
        debt=format_amounts(cluster.excess()),
        orphans=tuple(_orphan(orphan) for orphan in cluster.orphans),
        more_orphans=cluster.more_orphans,
    )


def _orphan(orphan: Orphan) -> OrphanView:
    return OrphanView(
        placement=orphan.placement,
        workload=orphan.workload,
        team=orphan.team,
        namespace=orphan.namespace,
        name=orphan.name,
        replicas=orphan.replicas,
    )


def cluster_news(cluster: Cluster, moment: Moment) -> ClusterNews:
    """A changed cluster in short."""
    return ClusterNews(
        name=cluster.name,
        phase=str(cluster.phase),
        revision=cluster.revision,
        cordoned=cluster.cordoned,
        silent=moment.silent(cluster),
        stale=cluster.unadopted or cluster.stale or None,
        nodes=cluster.nodes,
        resources=amounts_view(cluster.known, cluster.used, cluster.held),
        debt=format_amounts(cluster.excess()),
    )


def pool_view(clusters: Sequence[Cluster], moment: Moment) -> PoolView:
    """The pool: usable clusters summed, all in short."""
    briefs = tuple(_brief(cluster, moment) for cluster in sorted(clusters, key=lambda c: c.name))
    names = {brief.name for brief in briefs if brief.usable}
    usable = [cluster for cluster in clusters if cluster.name in names]
    return PoolView(
        at=time_of(moment.now_ms),
        usable=len(usable),
        nodes=sum(cluster.nodes for cluster in usable),
        resources=amounts_view(
            _summed(c.known for c in usable), _summed(c.used for c in usable), _summed(c.held for c in usable)
        ),
        clusters=briefs,
    )


def amounts_view(known: Amounts, used: Amounts, held: Amounts) -> dict[str, AmountsView]:
    """Each resource's four figures; what is in debt has nothing free."""
    view = {}
    for name in sorted({*known, *used, *held}):
        has, uses, holds = known.get(name, 0), used.get(name, 0), held.get(name, 0)
        view[name] = AmountsView(
            known=format_amount(name, has),
            used=format_amount(name, uses),
            held=format_amount(name, holds),
            free=format_amount(name, max(0, has - uses - holds)),
        )
    return view


def node_view(node: Node, *, all_teams: bool) -> NodeView:
    """A node; whose placements it carries is not for a single team to know."""
    return NodeView(
        name=node.name,
        usable=node.usable,
        allocatable=format_amounts(node.allocatable),
        requested=format_amounts(node.requested),
        free=format_amounts({name: amount for name, amount in node.free().items() if amount > 0}),
        labels=node.labels,
        taints=node.taints,
        placements={name: node.bound_of(name) for name in sorted(node.bound)} if all_teams else {},
    )


def _brief(cluster: Cluster, moment: Moment) -> ClusterBrief:
    silent = moment.silent(cluster)
    return ClusterBrief(
        name=cluster.name,
        phase=str(cluster.phase),
        usable=cluster.phase is ClusterPhase.READY
        and not (silent or cluster.cordoned or cluster.stale or cluster.awaits),
        cordoned=cluster.cordoned,
        silent=silent,
        stale=cluster.unadopted or cluster.stale or None,
        age_seconds=moment.age_seconds(cluster),
        nodes=cluster.nodes,
    )


def _summed(vectors: Iterable[Amounts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for vector in vectors:
        for name, amount in vector.items():
            total[name] = total.get(name, 0) + amount
    return total


# --- decisions -------------------------------------------------------------------------------------------------------


def decision_view(decision: Decision) -> DecisionView:
    """A decision without its verdicts."""
    return DecisionView(
        id=decision.id,
        workload=decision.workload,
        at=time_of(decision.at_ms),
        version=decision.version,
        outcome=decision.outcome,
        total=decision.total,
        placed=decision.placed,
        previous=decision.previous,
        summary=decision.summary,
        reasons=decision.reasons,
    )


def explanation_view(decision: Decision, explanation: Explanation) -> ExplanationView:
    """A decision with what it says of each cluster: its own verdicts stand before those that it shares."""
    own = {verdict.cluster: verdict for verdict in decision.own}
    shared = {verdict.cluster: verdict for verdict in explanation.verdicts}
    return ExplanationView(
        workload=decision.workload,
        decision=decision.id,
        at=time_of(decision.at_ms),
        version=decision.version,
        outcome=decision.outcome,
        total=decision.total,
        clusters=verdict_views({**shared, **own}.values()),
        summary=decision.summary,
        reasons=decision.reasons,
    )


def verdict_views(verdicts: Iterable[Verdict]) -> tuple[VerdictView, ...]:
    """Verdicts by the name of the cluster."""
    return tuple(
        VerdictView(
            cluster=verdict.cluster,
            verdict=verdict.verdict,
            reason=verdict.reason,
            wanted=verdict.wanted,
            fits=verdict.fits,
            previous=verdict.previous,
            score=verdict.score,
            age_seconds=verdict.age_seconds,
        )
        for verdict in sorted(verdicts, key=lambda verdict: verdict.cluster)
    )


def parked_view(parked: Parked, limit: int = 4096) -> ParkedView:
    """A parked record, safe to show."""
    return ParkedView(
        source=parked.source,
        offset=parked.offset,
        at=time_of(parked.at_ms),
        reason=parked.reason,
        key=_text(parked.key.encode(errors="replace"), limit),
        headers={name[:256]: _text(value, 512) for name, value in parked.headers[:64]},
        value=_text(parked.value, limit),
    )


def _text(value: bytes, limit: int) -> str:
    text: Any = value[:limit].decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)

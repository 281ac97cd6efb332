"""Which clusters may take a workload: rules in order, each a reason with the two values compared, or None to let pass.

What a rule says of a cluster does not depend on the workload's own history; what does stands apart (`lost`, `avoided`).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from federation.domain.cluster import SPREAD_LABELS, Cluster, ClusterPhase
from federation.domain.workload import ClusterSelection, Workload, WorkloadSpec
from federation.planner.taints import shown, untolerated

Filter = Callable[[WorkloadSpec, Cluster, bool], str | None]

AVOIDED: Final = "avoided"
_SHORT: Final = {label: name for name, label in SPREAD_LABELS.items()}
_MOST_SHOWN: Final = 5


def not_ready(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return None if cluster.phase is ClusterPhase.READY else f"phase {cluster.phase} is not {ClusterPhase.READY}"


def cordoned(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return "cordoned: takes nothing new" if cluster.cordoned else None


def silent_too_long(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return "silent: takes nothing new until it is heard again" if silent else None


def unadopted(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return cluster.unadopted or None


def stale(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return f"stale: {cluster.stale}" if cluster.stale else None


def without_agent(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    if spec.manifest is None or cluster.acts:
        return None
    return "no agent reads orders there, and the workload has a manifest"


def api_unknown(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    if spec.manifest is None or not spec.api or spec.api in cluster.apis:
        return None
    return f"API {spec.api} is not among {_listed(cluster.apis) or 'none'}"


def tainted(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    taint = untolerated(cluster.taints, spec.rules.cluster_tolerations)
    return None if taint is None else f"taint {shown(taint)} is not tolerated"


def not_selected(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    return unmatched(spec.rules.clusters, cluster)


def without_group(spec: WorkloadSpec, cluster: Cluster, silent: bool) -> str | None:
    for constraint in spec.rules.spread:
        if not cluster.group(constraint.by):
            return f"no {constraint.by} to spread by"
    return None


FILTERS: Final[tuple[Filter, ...]] = (
    not_ready,
    cordoned,
    silent_too_long,
    unadopted,
    stale,
    without_agent,
    api_unknown,
    tainted,
    not_selected,
    without_group,
)

_WORDS: Final[Mapping[Filter, str]] = {
    not_ready: "not ready",
    cordoned: "cordoned",
    silent_too_long: "silent",
    unadopted: "not adopted",
    stale: "stale",
    without_agent: "no agent",
    api_unknown: "API unknown",
    tainted: "tainted",
    not_selected: "not selected",
    without_group: "no group",
}


def refusal(spec: WorkloadSpec, cluster: Cluster, silent: bool, *, but: Filter | None = None) -> tuple[str, str] | None:
    """(one word for it, the reason) of the first rule, leaving out *but*, that refuses *cluster*."""
    for rule in FILTERS:
        reason = None if rule is but else rule(spec, cluster, silent)
        if reason is not None:
            return _WORDS[rule], reason
    return None


def lost(spec: WorkloadSpec, cluster: Cluster | None) -> str | None:
    """Why what runs in *cluster* cannot stay; every other rule only keeps it from taking more."""
    if cluster is None or cluster.phase is ClusterPhase.LEFT:
        return "left the federation"
    return unmatched(spec.rules.clusters, cluster)


def avoided(workload: Workload, cluster: str, now_ms: int) -> str | None:
    """Why *workload* stays away from a cluster that failed it, for a while, and what that cluster said."""
    until = workload.avoid.get(cluster, 0)
    if until <= now_ms:
        return None
    text = f"failed this workload: avoided until {datetime.fromtimestamp(until // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    failure = workload.failures.get(cluster)
    return f"{text}: {failure}" if failure else text


def unmatched(selection: ClusterSelection, cluster: Cluster) -> str | None:
    """Why *selection* does not match *cluster*."""
    if selection.names and cluster.name not in selection.names:
        return f"{cluster.name} is not among {_listed(selection.names)}"
    if cluster.name in selection.exclude:
        return f"{cluster.name} is excluded"
    for key, value in selection.labels.items():
        if cluster.labels.get(key) != value:
            return f"{_SHORT.get(key, key)} {cluster.labels.get(key) or '(none)'} is not {value}"
    return None


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")

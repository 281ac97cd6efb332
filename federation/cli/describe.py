"""One thing in full: a workload with its placements and their reasons, a cluster, a node, a decision."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from federation.cli.explain import bullets, explanation_lines, reason_in
from federation.cli.kinds import COLUMNS, Kind, status_of, total
from federation.cli.output import Column, Row, age_of, aligned, lasting, shown, table

Fields = list[tuple[str, object]]
_RESOURCES: Final = COLUMNS[Kind.POOL]
_PLACEMENTS: Final = (
    Column("CLUSTER", lambda row: row["cluster"]),
    Column("PHASE", lambda row: row["phase"]),
    Column("REPLICAS", lambda row: row["replicas"]),
    Column("BOUND", lambda row: row["bound"]),
    Column("READY", lambda row: row["ready"]),
    Column("HELD", lambda row: row["held"]),
    Column("ID", lambda row: row["id"]),
    Column("REASON", lambda row: row["reason"]),
)
_ORPHANS: Final = (
    Column("WORKLOAD", lambda row: row["workload"]),
    Column("TEAM", lambda row: row["team"]),
    Column("NAMESPACE", lambda row: row["namespace"]),
    Column("NAME", lambda row: row["name"]),
    Column("REPLICAS", lambda row: row["replicas"]),
    Column("PLACEMENT", lambda row: row["placement"]),
)
_ROOM: Final = (
    Column("RESOURCE", lambda row: row["resource"]),
    Column("ALLOCATABLE", lambda row: row["allocatable"]),
    Column("REQUESTED", lambda row: row["requested"]),
    Column("FREE", lambda row: row["free"]),
)


def workload_lines(workload: Row, explanation: Mapping[str, Any]) -> list[str]:
    """A workload; the reason beside a placement is that of the latest decision."""
    ready, bound, held = (total(workload, figure) for figure in ("ready", "bound", "held"))
    fields: Fields = [
        ("Name", workload["name"]),
        ("Team", workload["team"]),
        ("Id", workload["id"]),
        ("Kind", workload.get("kind") or "none (the caller deploys the pods)"),
        ("Phase", workload["phase"]),
        ("Replicas", f"{workload['replicas']} wanted, {bound} bound, {ready} ready, {held} held"),
        ("Priority", workload.get("priority", 0)),
        ("Version", f"{workload['version']} (decided: {workload.get('decided', 0)})"),
        ("Created", _when(workload.get("createdAt"))),
        ("Changed", _when(workload.get("changedAt"))),
    ]
    if workload.get("leaseUntil"):
        fields.append(("Lease until", workload["leaseUntil"]))
    placements = [
        {**placement, "reason": reason_in(explanation, placement["cluster"])} for placement in workload["placements"]
    ]
    return [
        *_fields(fields),
        *_section("Placements", table(_PLACEMENTS, placements) if placements else []),
        *_section("Pods must carry", _labels(workload)),
        *_section("Reasons", bullets(list(workload.get("reasons", ())))),
        *_section("Decision", [shown(explanation["summary"])] if explanation.get("summary") else []),
    ]


def cluster_lines(cluster: Row) -> list[str]:
    """A cluster with its resources."""
    orders = cluster.get("orders")
    fields: Fields = [
        ("Name", cluster["name"]),
        ("Status", status_of(cluster)),
        ("Kind", cluster.get("kind")),
        ("Kubernetes", cluster.get("kubernetesVersion")),
        ("Nodes", cluster["nodes"]),
        ("Placements", f"{cluster['placements']}, {cluster['held']} replicas held"),
        ("Unbound pods", cluster.get("unbound")),
        ("Seen", f"{lasting(cluster.get('ageSeconds'))} ago" if cluster.get("ageSeconds") is not None else "never"),
        ("Orders done", f"{orders['done']} (generation {orders['generation']})" if orders else "no agent acts here"),
    ]
    if cluster.get("stale"):
        fields.append(("Stale", cluster["stale"]))
    resources = [{"resource": name, **figures} for name, figures in sorted(cluster["resources"].items())]
    return [
        *_fields(fields),
        *_section("Resources", table(_RESOURCES, resources) if resources else []),
        *_section("Debt", _pairs(cluster.get("debt", {}))),
        *_section("Orphans", _orphans(cluster)),
        *_section("Labels", _pairs(cluster.get("labels", {}))),
        *_section("Taints", _taints(cluster)),
    ]


def node_lines(node: Row) -> list[str]:
    """A node with its room."""
    parts = ("allocatable", "requested", "free")
    names = sorted({name for part in parts for name in node[part]})
    room = [{"resource": name, **{part: node[part].get(name, "0") for part in parts}} for name in names]
    fields: Fields = [
        ("Name", node["name"]),
        ("Cluster", node["cluster"]),
        ("Status", "Ready" if node["usable"] else "NotUsable"),
    ]
    return [
        *_fields(fields),
        *_section("Resources", table(_ROOM, room) if room else []),
        *_section("Placements", _pairs(node.get("placements", {}))),
        *_section("Labels", _pairs(node["labels"])),
        *_section("Taints", _taints(node)),
    ]


def decision_lines(decision: Row) -> list[str]:
    """A decision with its explanation."""
    explanation = decision.get("explanation") or decision
    return explanation_lines(explanation, wide=True)


LINES: Final[Mapping[Kind, Callable[[Row], list[str]]]] = {
    Kind.CLUSTER: cluster_lines,
    Kind.NODE: node_lines,
    Kind.DECISION: decision_lines,
}


def _when(moment: object) -> str:
    return f"{moment} ({age_of(moment)} ago)" if moment else ""


def _labels(workload: Row) -> list[str]:
    return [
        f"{placement['cluster']}: {name}={value}"
        for placement in workload["placements"]
        for name, value in placement.get("podLabels", {}).items()
    ]


def _fields(fields: Fields) -> list[str]:
    return aligned([[f"{name}:", shown(value)] for name, value in fields])


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _pairs(pairs: Mapping[str, Any]) -> list[str]:
    return [shown(f"{name}={value}") for name, value in sorted(pairs.items())]


def _orphans(cluster: Row) -> list[str]:
    """What runs there that nobody decided, and how many more there are than are listed."""
    orphans = list(cluster.get("orphans", ()))
    more = cluster.get("moreOrphans", 0)
    return [*(table(_ORPHANS, orphans) if orphans else []), *([f"and {more} more"] if more else [])]


def _taints(row: Row) -> list[str]:
    return [shown(f"{taint['key']}={taint['value']}:{taint['effect']}") for taint in row.get("taints", ())]

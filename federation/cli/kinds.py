"""The kinds of things that can be read: their names, where the server keeps them, and the columns they are shown in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import typer

from federation.cli.output import Column, Row, age_of, human, lasting


class Kind(StrEnum):
    """What can be read, by the word that messages use."""

    WORKLOAD = "workload"
    CLUSTER = "cluster"
    NODE = "node"
    DECISION = "decision"
    POOL = "pool"
    PARKED = "parked"


ALIASES: Final = {
    **{str(kind): kind for kind in Kind},
    **{f"{kind}s": kind for kind in (Kind.WORKLOAD, Kind.CLUSTER, Kind.NODE, Kind.DECISION)},
    "wl": Kind.WORKLOAD,
    "cl": Kind.CLUSTER,
    "no": Kind.NODE,
    "de": Kind.DECISION,
}
PLURALS: Final = ("workloads", "clusters", "nodes", "decisions", "pool", "parked")
GPU: Final = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Named:
    """A kind and, where one is meant, a name."""

    kind: Kind
    name: str = ""


def named(words: Iterable[str], default: Kind | None = None) -> Named:
    """What `workload web`, `workload/web` or (with a *default*) `web` name."""
    given = list(words)
    if len(given) == 1 and "/" in given[0]:
        given = given[0].split("/", 1)
    if len(given) == 1 and default is not None and given[0].lower() not in ALIASES:
        return Named(default, given[0])
    kind = ALIASES.get(given[0].lower())
    if kind is None or len(given) > 2:
        raise typer.BadParameter(f"{' '.join(given)!r} is none of: {', '.join(PLURALS)}, with at most one name")
    return Named(kind, given[1] if len(given) == 2 else "")


def clusters_of(workload: Row) -> str:
    """Where a workload's replicas are asked for: `east:25,west:15`."""
    counts: dict[str, int] = {}
    for placement in workload.get("placements", ()):
        counts[placement["cluster"]] = counts.get(placement["cluster"], 0) + placement["replicas"]
    return ",".join(f"{cluster}:{count}" for cluster, count in sorted(counts.items()) if count)


def total(workload: Row, figure: str) -> int:
    """A figure summed over the placements of a workload."""
    return sum(int(placement.get(figure, 0)) for placement in workload.get("placements", ()))


def status_of(cluster: Row) -> str:
    """All that holds of a cluster: `Ready,Cordoned`, `Silent`, `Stale`."""
    words = [str(cluster.get("phase", "")).capitalize()]
    for word in ("cordoned", "silent", "stale"):
        if cluster.get(word):
            words.append(word.capitalize())
    return ",".join(words)


def _figure(row: Row, resource: str, figure: str) -> str:
    figures = row.get("resources", {}).get(resource)
    return human(resource, figures[figure]) if figures else ""


def _region(cluster: Row) -> object:
    return cluster.get("labels", {}).get("topology.kubernetes.io/region")


def _joined(pairs: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(pairs.items()))


def split(placed: Mapping[str, int]) -> str:
    """Replicas by cluster: `east:25,west:15`."""
    return ",".join(f"{cluster}:{count}" for cluster, count in sorted(placed.items()) if count)


def _room(node: Row, resource: str) -> str:
    if resource not in node["allocatable"]:
        return ""
    free, known = (human(resource, node[part].get(resource, "0")) for part in ("free", "allocatable"))
    return f"{free}/{known}"


COLUMNS: Final[Mapping[Kind, tuple[Column, ...]]] = {
    Kind.WORKLOAD: (
        Column("NAME", lambda row: row["name"]),
        Column("TEAM", lambda row: row["team"]),
        Column("PHASE", lambda row: row["phase"]),
        Column("REPLICAS", lambda row: row["replicas"]),
        Column("READY", lambda row: total(row, "ready")),
        Column("HELD", lambda row: total(row, "held")),
        Column("CLUSTERS", clusters_of),
        Column("AGE", lambda row: age_of(row.get("createdAt"))),
        Column("KIND", lambda row: row.get("kind"), wide=True),
        Column("PRIORITY", lambda row: row.get("priority"), wide=True),
        Column("ID", lambda row: row["id"], wide=True),
        Column("REASONS", lambda row: "; ".join(row.get("reasons", ())), wide=True),
    ),
    Kind.CLUSTER: (
        Column("NAME", lambda row: row["name"]),
        Column("STATUS", status_of),
        Column("REGION", _region),
        Column("NODES", lambda row: row["nodes"]),
        Column("FREE-CPU", lambda row: _figure(row, "cpu", "free")),
        Column("FREE-MEMORY", lambda row: _figure(row, "memory", "free")),
        Column("FREE-GPU", lambda row: _figure(row, GPU, "free")),
        Column("PLACEMENTS", lambda row: row["placements"]),
        Column("HELD", lambda row: row["held"]),
        Column("SEEN", lambda row: lasting(row.get("ageSeconds"))),
        Column("VERSION", lambda row: row.get("kubernetesVersion"), wide=True),
        Column("UNBOUND", lambda row: row.get("unbound"), wide=True),
        Column("DEBT", lambda row: _joined(row.get("debt", {})), wide=True),
        Column("STALE", lambda row: row.get("stale"), wide=True),
        Column("LABELS", lambda row: _joined(row.get("labels", {})), wide=True),
    ),
    Kind.NODE: (
        Column("CLUSTER", lambda row: row["cluster"]),
        Column("NAME", lambda row: row["name"]),
        Column("STATUS", lambda row: "Ready" if row["usable"] else "NotUsable"),
        Column("CPU-FREE", lambda row: _room(row, "cpu")),
        Column("MEMORY-FREE", lambda row: _room(row, "memory")),
        Column("GPU-FREE", lambda row: _room(row, GPU)),
        Column("PODS-FREE", lambda row: _room(row, "pods")),
        Column(
            "TAINTS", lambda row: ",".join(f"{taint['key']}:{taint['effect']}" for taint in row["taints"]), wide=True
        ),
        Column("LABELS", lambda row: _joined(row["labels"]), wide=True),
    ),
    Kind.DECISION: (
        Column("ID", lambda row: row["id"]),
        Column("OUTCOME", lambda row: row["outcome"]),
        Column("TOTAL", lambda row: row["total"]),
        Column("PLACED", lambda row: split(row["placed"])),
        Column("PREVIOUS", lambda row: split(row["previous"])),
        Column("AGE", lambda row: age_of(row["at"])),
        Column("SUMMARY", lambda row: row.get("summary"), wide=True),
        Column("REASONS", lambda row: "; ".join(row.get("reasons", ())), wide=True),
    ),
    Kind.POOL: (
        Column("RESOURCE", lambda row: row["resource"]),
        Column("KNOWN", lambda row: human(row["resource"], row["known"])),
        Column("USED", lambda row: human(row["resource"], row["used"])),
        Column("HELD", lambda row: human(row["resource"], row["held"])),
        Column("FREE", lambda row: human(row["resource"], row["free"])),
    ),
    Kind.PARKED: (
        Column("SOURCE", lambda row: row["source"]),
        Column("OFFSET", lambda row: row["offset"]),
        Column("KEY", lambda row: row["key"]),
        Column("REASON", lambda row: row["reason"]),
        Column("AGE", lambda row: age_of(row["at"])),
        Column("VALUE", lambda row: row["value"][:200], wide=True),
    ),
}

"""What the API answers, built from the little that a test cares for."""

from datetime import UTC, datetime, timedelta
from typing import Any

WEB = "01JDZZZZZZZZZZZZZZZZZZZZZZ"
CHOICE = "01JEZZZZZZZZZZZZZZZZZZZZZZ"


def ago(**duration: float) -> str:
    """A time so long ago, and a little more so that it does not pass a boundary while the test runs."""
    return (datetime.now(UTC) - timedelta(**duration) - timedelta(seconds=20)).isoformat().replace("+00:00", "Z")


def make_placement(cluster: str, replicas: int, **given: Any) -> dict[str, Any]:
    placement = {"id": f"01JF-{cluster}", "workload": WEB, "cluster": cluster, "component": "main", "version": 1}
    counts = {"replicas": replicas, "held": 0, "bound": replicas, "ready": replicas}
    return {**placement, **counts, "phase": "running", "podLabels": {}, **given}


def make_workload(*placements: dict[str, Any], **given: Any) -> dict[str, Any]:
    workload = {"id": WEB, "name": "web", "team": "shop", "phase": "placed", "version": 1, "decided": 1}
    return {
        **workload,
        "replicas": sum(placement["replicas"] for placement in placements),
        "priority": 0,
        "kind": "Deployment",
        "decision": CHOICE,
        "placements": list(placements),
        "reasons": [],
        "createdAt": ago(hours=20),
        "changedAt": ago(hours=20),
        "leaseUntil": None,
        **given,
    }


def make_verdict(cluster: str, verdict: str, **given: Any) -> dict[str, Any]:
    figures = {"wanted": 0, "fits": 0, "previous": 0, "score": 0, "ageSeconds": 2.5}
    return {"cluster": cluster, "verdict": verdict, "reason": "", **figures, **given}


def make_explanation(*verdicts: dict[str, Any], **given: Any) -> dict[str, Any]:
    explanation = {"workload": WEB, "decision": CHOICE, "at": ago(hours=20), "version": 1, "outcome": "placed"}
    return {**explanation, "total": 40, "clusters": list(verdicts), "summary": "", "reasons": [], **given}


def make_figures(known: str, used: str, held: str, free: str) -> dict[str, str]:
    return {"known": known, "used": used, "held": held, "free": free}


def make_cluster(name: str, **given: Any) -> dict[str, Any]:
    cluster = {"name": name, "phase": "ready", "kind": "ordinary", "kubernetesVersion": "v1.36.3", "taints": []}
    resources = {
        "cpu": make_figures("64", "16", "8", "40"),
        "memory": make_figures("256Gi", "64Gi", "0", "192Gi"),
        "pods": make_figures("440", "10", "4", "426"),
    }
    return {
        **cluster,
        "labels": {"topology.kubernetes.io/region": "eu-1"},
        "cordoned": False,
        "silent": False,
        "stale": None,
        "ageSeconds": 2.5,
        "nodes": 4,
        "resources": resources,
        "placements": 3,
        "held": 5,
        "unbound": 0,
        "orders": {"generation": 1, "done": 311},
        "debt": {},
        **given,
    }


def make_node(name: str, **given: Any) -> dict[str, Any]:
    return {
        "name": name,
        "usable": True,
        "allocatable": {"cpu": "16", "memory": "64Gi", "pods": "110"},
        "requested": {"cpu": "12500m", "memory": "48Gi", "pods": "57"},
        "free": {"cpu": "3500m", "memory": "16Gi", "pods": "53"},
        "labels": {"topology.kubernetes.io/zone": "eu-1a"},
        "taints": [{"key": "gpu", "value": "", "effect": "NoSchedule"}],
        "placements": {},
        **given,
    }

"""Simulated clusters, manifests and counts for the tests of the simulated member."""

from typing import Any

from adapters.memory.cluster import SimulatedCluster
from adapters.memory.cluster_state import SimPod
from federation.domain.member import PLACEMENT_LABEL, REVISION_LABEL, ObjectKey

WEB = ObjectKey("apps/v1/Deployment", "default", "web")
POD = {"cpu": "1", "memory": "1Gi"}


def make_cluster(nodes: int = 3, seed: int = 1) -> SimulatedCluster:
    cluster = SimulatedCluster("east", seed=seed)
    for number in range(nodes):
        cluster.add_node(f"n{number}", {"cpu": "8", "memory": "32Gi"})
    return cluster


def make_object(kind: str, revision: str = "1", **spec: Any) -> dict[str, Any]:
    labels = {"app": "web", PLACEMENT_LABEL: "p1", REVISION_LABEL: revision}
    container = {"name": "main", "image": "nowhere/none:1", "resources": {"requests": POD}}
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": "web"}}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default", "labels": labels},
        "spec": {**selector, **spec, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    }


def apply(cluster: SimulatedCluster, manifest: dict[str, Any]) -> str:
    """Create it, or change it as it is; returns its uid."""
    key = ObjectKey(f"{manifest['apiVersion']}/{manifest['kind']}", "default", "web")
    before = cluster.find(key)
    return cluster.apply(manifest, before.uid if before else "", str(before.rv) if before else "").uid


def live(cluster: SimulatedCluster) -> list[SimPod]:
    return [pod for pod in cluster.pods.values() if pod.live]


def ready(cluster: SimulatedCluster) -> list[SimPod]:
    return [pod for pod in cluster.pods.values() if pod.live and pod.ready]


def run(cluster: SimulatedCluster, seconds: float) -> None:
    cluster.step(cluster.now_ms + int(seconds * 1000))

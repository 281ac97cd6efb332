"""The scheduler of a simulated cluster: it gives each pending pod a node of its own choice, or says why it cannot."""

from collections import Counter
from typing import TYPE_CHECKING

from adapters.memory import kubelet
from adapters.memory.cluster_state import CORDONED, PODS, PodShape, SimNode, SimPod

if TYPE_CHECKING:
    from adapters.memory.cluster import SimulatedCluster


def run(cluster: "SimulatedCluster", _key: str) -> None:
    """One pass over what waits, by priority and age. What does not fit now is tried again when something changes."""
    refused: dict[int, str] = {}
    for pod in sorted(cluster.pending.values(), key=lambda pod: (-pod.shape.priority, pod.created)):
        del cluster.pending[pod.uid]
        reason = refused.get(id(pod.shape)) or _place(cluster, pod)
        if reason:
            refused[id(pod.shape)] = reason
            _give_up(cluster, pod, reason)


def _place(cluster: "SimulatedCluster", pod: SimPod) -> str:
    fitting: list[SimNode] = []
    reasons: Counter[str] = Counter()
    for node in cluster.nodes.values():
        against = _against(cluster, pod.shape, node)
        reasons.update(against)
        if not against:
            fitting.append(node)
    if not fitting:
        return _words(len(cluster.nodes), reasons)
    _bind(cluster, pod, min(fitting, key=lambda node: _load(cluster, pod, node)))
    return ""


def _against(cluster: "SimulatedCluster", shape: PodShape, node: SimNode) -> list[str]:
    """What speaks against *node*, in kube-scheduler's words; the first of its filters that fails speaks."""
    for taint in node.all_taints:
        if taint.effect != "PreferNoSchedule" and not any(each.covers(taint) for each in shape.tolerations):
            if taint.key == CORDONED:
                return ["node(s) were unschedulable"]
            return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"]
    if any(node.labels.get(name) != value for name, value in shape.node_selector.items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    used = cluster.usage.get(node.name, {})
    short = [
        f"Insufficient {name}"
        for name, value in shape.requests.items()
        if value > node.amounts.get(name, 0) - used.get(name, 0)
    ]
    return ["Too many pods", *short] if used.get("pods", 0) >= node.amounts.get("pods", 0) else short


def _load(cluster: "SimulatedCluster", pod: SimPod, node: SimNode) -> tuple[int, float]:
    """Least allocated of cpu and memory first; pods of one owner rather apart; equal ones by lot."""
    used, share = cluster.usage.get(node.name, {}), 0
    for name in ("cpu", "memory"):
        if node.amounts.get(name):
            share += 1000 * (used.get(name, 0) + pod.shape.requests.get(name, 0)) // node.amounts[name]
    company = sum(1 for each in cluster.pods_on[node.name].values() if pod.owner and each.owner == pod.owner)
    return share + 20 * company, cluster.rng.random()


def _bind(cluster: "SimulatedCluster", pod: SimPod, node: SimNode) -> None:
    pod.node, pod.unschedulable = node.name, ""
    cluster.occupy(pod)
    kubelet.bound(cluster, pod)
    cluster.touch(PODS, pod.uid)


def _give_up(cluster: "SimulatedCluster", pod: SimPod, reason: str) -> None:
    cluster.hopeless[pod.uid] = pod
    if pod.unschedulable != reason:
        pod.unschedulable = reason
        cluster.touch(PODS, pod.uid)


def _words(nodes: int, reasons: Counter[str]) -> str:
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return f"0/{nodes} nodes are available: {listed}." if listed else "no nodes available to schedule pods"

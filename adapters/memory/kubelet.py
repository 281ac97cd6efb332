"""The kubelets of a simulated cluster, and what becomes of pods whose kubelet falls silent."""

from typing import TYPE_CHECKING

from adapters.memory.cluster_state import PODS, SimNode, SimPod

if TYPE_CHECKING:
    from adapters.memory.cluster import SimulatedCluster


def bound(cluster: "SimulatedCluster", pod: SimPod) -> None:
    """The scheduler gave *pod* a node: its kubelet starts it."""
    cluster.due_in(pod, cluster.jitter(cluster.timing.start))


def sync_pod(cluster: "SimulatedCluster", uid: str) -> None:
    """The time of a pod's next step has come: running, ended, or gone. On a silent node nothing happens."""
    pod = cluster.pods.get(uid)
    node = cluster.nodes.get(pod.node) if pod else None
    if pod is None or node is None or node.lost_ms or not pod.due_ms:
        return
    if pod.due_ms > cluster.now_ms:
        cluster.after("kubelet", uid, pod.due_ms - cluster.now_ms)
    elif pod.deleting:
        cluster.forget_pod(pod)
    elif pod.phase == "Pending":
        _start(cluster, pod)
    elif pod.phase == "Running":
        end_pod(cluster, pod, "Succeeded")


def _start(cluster: "SimulatedCluster", pod: SimPod) -> None:
    pod.phase, pod.ready, pod.ready_ms, pod.due_ms = "Running", True, cluster.now_ms, 0
    run_ms = _run_ms(cluster, pod)
    if run_ms >= 0:
        cluster.due_in(pod, run_ms)
    cluster.touch(PODS, pod.uid)
    cluster.wake(pod.owner)


def _run_ms(cluster: "SimulatedCluster", pod: SimPod) -> int:
    owner = cluster.objects.get(pod.owner)
    if owner is None or owner.api != "batch/v1/Job":
        return -1
    return pod.shape.run_ms if pod.shape.run_ms >= 0 else cluster.timing.job_run


def end_pod(cluster: "SimulatedCluster", pod: SimPod, phase: str) -> None:
    """The pod's containers end for good, as Succeeded or Failed."""
    if pod.terminal:
        return
    pod.phase, pod.ready, pod.due_ms = phase, False, 0
    cluster.pending.pop(pod.uid, None)
    cluster.hopeless.pop(pod.uid, None)
    cluster.vacate(pod)
    cluster.touch(PODS, pod.uid)
    cluster.wake(pod.owner)


def lose_node(cluster: "SimulatedCluster", node: SimNode) -> None:
    """No word from the kubelet: the node and its pods are not ready."""
    if node.lost_ms:
        return
    node.lost_ms, node.emptied = max(1, cluster.now_ms), False
    cluster.change_node(node)
    for pod in list(cluster.pods_on[node.name].values()):
        if pod.ready:
            pod.ready = False
            cluster.touch(PODS, pod.uid)
            cluster.wake(pod.owner)
    cluster.after("nodes", node.name, cluster.timing.tolerance)


def sync_node(cluster: "SimulatedCluster", name: str) -> None:
    """The tolerance of a silent node is over: its pods are marked, and stay so until the kubelet or the node goes."""
    node = cluster.nodes.get(name)
    if node is None or not node.lost_ms or node.emptied:
        return
    left = node.lost_ms + cluster.timing.tolerance - cluster.now_ms
    if left > 0:
        cluster.after("nodes", name, left)
        return
    node.emptied = True
    cluster.change_node(node)
    for pod in list(cluster.pods_on[name].values()):
        cluster.delete_pod(pod)


def regain_node(cluster: "SimulatedCluster", node: SimNode) -> None:
    """The kubelet speaks again."""
    if not node.lost_ms:
        return
    node.lost_ms, node.emptied = 0, False
    cluster.change_node(node)
    for pod in list(cluster.pods_on[node.name].values()):
        if pod.phase == "Running" and not pod.deleting:
            pod.ready = True
            cluster.touch(PODS, pod.uid)
            cluster.wake(pod.owner)
        if pod.due_ms:
            cluster.due_in(pod, max(cluster.jitter(1), pod.due_ms - cluster.now_ms))

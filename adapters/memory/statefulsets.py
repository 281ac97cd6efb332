"""The StatefulSet controller of a simulated cluster: ordinals come in order and go in reverse, one at a time."""

from typing import TYPE_CHECKING

from adapters.memory.cluster_state import SimObject, SimPod, Template
from adapters.memory.controllers import write_status

if TYPE_CHECKING:
    from adapters.memory.cluster import SimulatedCluster


def sync(cluster: "SimulatedCluster", uid: str) -> None:
    """One pass: the next ordinal that is missing, the last that is too many, or the next that is of an old revision."""
    found = cluster.objects.get(uid)
    if found is None or found.deleting:
        return
    template = cluster.template_of(found)
    start = int((found.spec.get("ordinals") or {}).get("start", 0))
    ordinals = range(start, start + found.replicas)
    pods = {pod.ordinal: pod for pod in cluster.owned_pods(uid)}
    if _create_missing(cluster, found, template, [pods.get(ordinal, ordinal) for ordinal in ordinals]):
        _remove_one(cluster, pods, ordinals, template)
    ready = [pod for pod in cluster.owned_pods(uid) if pod.ready and pod.live]
    updated = sum(1 for pod in ready if pod.digest == template.digest)
    write_status(cluster, found, (len(ready), updated, "Available" if updated == found.replicas else "Progressing"))


def _create_missing(
    cluster: "SimulatedCluster", found: SimObject, template: Template, wanted: list["SimPod | int"]
) -> bool:
    """Whether all ordinals are there and healthy; otherwise the first gap is worked on."""
    parallel, complete = found.spec.get("podManagementPolicy") == "Parallel", True
    found.refusal = ""
    for each in wanted:
        if isinstance(each, int):
            complete = False
            _create(cluster, found, template, each)
        elif each.terminal:
            cluster.delete_pod(each)
            complete = False
        elif not (each.ready and each.live):
            complete = False
        if not complete and not parallel:
            return False
    return complete


def _create(cluster: "SimulatedCluster", found: SimObject, template: Template, ordinal: int) -> None:
    name = f"{found.name}-{ordinal}"
    found.refusal = cluster.refusal(found.namespace, name)
    if found.refusal or (found.namespace, name) in cluster.pod_uids:
        cluster.after("statefulset", found.uid, 1000)
        return
    cluster.create_pod(found.uid, found.namespace, name, template).ordinal = ordinal


def _remove_one(cluster: "SimulatedCluster", pods: dict[int, SimPod], ordinals: range, template: Template) -> None:
    surplus = [pods[ordinal] for ordinal in sorted(pods, reverse=True) if ordinal not in ordinals]
    outdated = [pods[ordinal] for ordinal in reversed(ordinals) if pods[ordinal].digest != template.digest]
    candidates = surplus or outdated
    if candidates and not any(pod.deleting for pod in pods.values()):
        cluster.delete_pod(candidates[0])

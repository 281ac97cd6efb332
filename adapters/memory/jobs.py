"""The Job controller of a simulated cluster: pods run for their time, and are counted once."""

from typing import TYPE_CHECKING, Final

from adapters.memory.cluster_state import PODS, SimObject
from adapters.memory.controllers import pod_name, write_status

if TYPE_CHECKING:
    from adapters.memory.cluster import SimulatedCluster

_BACKOFF_LIMIT: Final = 6


def sync(cluster: "SimulatedCluster", uid: str) -> None:
    """One pass: count what has ended, then as many pods as may still run."""
    found = cluster.objects.get(uid)
    if found is None or found.deleting:
        return
    _count(cluster, found)
    if found.condition in ("Complete", "Failed"):
        _expire(cluster, found)
        return
    condition = _condition(found)
    wanted = 0 if condition in ("Complete", "Failed") else min(found.replicas, _most(found) - found.succeeded)
    _resize(cluster, found, wanted)
    if condition in ("Complete", "Failed"):
        found.finished_ms = cluster.now_ms
        cluster.after("job", uid, 1)
    ready = sum(1 for pod in cluster.owned_pods(uid) if pod.ready and pod.live)
    write_status(cluster, found, (ready, ready, condition))


def _count(cluster: "SimulatedCluster", found: SimObject) -> None:
    before = (found.succeeded, found.failed)
    for pod in cluster.owned_pods(found.uid):
        if not pod.live and not pod.counted:
            pod.counted = True
            cluster.touch(PODS, pod.uid)
            found.succeeded += pod.phase == "Succeeded"
            found.failed += pod.phase != "Succeeded"
    if before != (found.succeeded, found.failed):
        cluster.touch_object(found)


def _completions(found: SimObject) -> int | None:
    completions = found.spec.get("completions")
    if completions is None and int(found.spec.get("parallelism", 1)) == 1:
        return 1
    return None if completions is None else int(completions)


def _most(found: SimObject) -> int:
    """How many may ever succeed; in a work queue no pod follows one that did."""
    completions = _completions(found)
    return int(found.spec.get("parallelism", 1)) if completions is None else completions


def _condition(found: SimObject) -> str:
    if found.failed > int(found.spec.get("backoffLimit", _BACKOFF_LIMIT)):
        return "Failed"
    if found.succeeded >= _most(found):
        return "Complete"
    return "Suspended" if found.spec.get("suspend") else ""


def _resize(cluster: "SimulatedCluster", found: SimObject, wanted: int) -> None:
    """What others delete counts as failed and is replaced; what this deletes itself does not count."""
    live = [pod for pod in cluster.owned_pods(found.uid) if pod.live]
    found.refusal = ""
    for _ in range(wanted - len(live)):
        name = pod_name(cluster, found.name)
        found.refusal = cluster.refusal(found.namespace, name)
        if found.refusal:
            cluster.after("job", found.uid, 1000)
            return
        cluster.create_pod(found.uid, found.namespace, name, cluster.template_of(found))
    for pod in sorted(live, key=lambda pod: (bool(pod.node), -pod.created))[: max(0, len(live) - wanted)]:
        pod.counted = True
        cluster.delete_pod(pod)


def _expire(cluster: "SimulatedCluster", found: SimObject) -> None:
    seconds = found.spec.get("ttlSecondsAfterFinished")
    if seconds is None:
        return
    left = found.finished_ms + 1000 * int(seconds) - cluster.now_ms
    if left > 0:
        cluster.after("job", found.uid, left)
    else:
        cluster.delete(found.key, found.uid)

"""The Deployment and ReplicaSet controllers and the garbage collector of a simulated cluster.

Each looks at one object, compares what is with what should be, and does what is missing: it may be called at any time.
"""

from typing import TYPE_CHECKING, Final

from adapters.memory.cluster_manifests import rollout_room
from adapters.memory.cluster_state import DEPLOYMENT, OBJECTS, REPLICA_SETS, SimObject, SimPod, SimReplicaSet

if TYPE_CHECKING:
    from adapters.memory.cluster import SimulatedCluster

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_DEADLINE_SECONDS: Final = 600
_HISTORY: Final = 10


# --- Deployment ------------------------------------------------------------------------------------------------------


def sync_deployment(cluster: "SimulatedCluster", uid: str) -> None:
    """One pass of the Deployment controller: ReplicaSets of the right size, then status."""
    found = cluster.objects.get(uid)
    if found is None or found.deleting:
        return
    newest = _newest_set(cluster, found)
    older = [each for each in cluster.sets_of(uid) if each is not newest]
    if (found.spec.get("strategy") or {}).get("type") == "Recreate":
        _recreate(cluster, found, newest, older)
    else:
        _roll(cluster, found, newest, older)
    _drop_history(cluster, older, int(found.spec.get("revisionHistoryLimit", _HISTORY)))
    _write_status(cluster, found, newest)


def _newest_set(cluster: "SimulatedCluster", found: SimObject) -> SimReplicaSet:
    template = cluster.template_of(found)
    for each in cluster.sets_of(found.uid):
        if each.template.digest == template.digest:
            return each
    made = SimReplicaSet(
        uid=cluster.new_uid(),
        owner=found.uid,
        namespace=found.namespace,
        name=f"{found.name}-{template.digest}",
        template=template,
        created=cluster.rv,
    )
    cluster.add_set(made)
    found.progress_ms = cluster.now_ms
    return made


def _resize(cluster: "SimulatedCluster", found: SimReplicaSet, replicas: int) -> None:
    if found.replicas != replicas:
        found.replicas = replicas
        found.generation += 1
        cluster.touch(REPLICA_SETS, found.uid)
        cluster.touch(OBJECTS, found.owner)
    if found.observed < found.generation:
        cluster.after("replicaset", found.uid, cluster.timing.controller)


def _recreate(cluster: "SimulatedCluster", found: SimObject, newest: SimReplicaSet, older: list[SimReplicaSet]) -> None:
    for each in older:
        _resize(cluster, each, 0)
    if not any(cluster.owned_pods(each.uid) for each in older):
        _resize(cluster, newest, found.replicas)


def _roll(cluster: "SimulatedCluster", found: SimObject, newest: SimReplicaSet, older: list[SimReplicaSet]) -> None:
    """RollingUpdate: never more than replicas + surge wanted, never fewer than replicas - unavailable ready."""
    wanted = found.replicas
    surge, unavailable = rollout_room(found.spec, wanted)
    _shrink_to(cluster, older, newest, wanted + (surge if any(each.replicas for each in older) else 0))
    room = wanted + surge - sum(each.replicas for each in older)
    _resize(cluster, newest, min(wanted, max(newest.replicas, room)))
    _scale_down_older(cluster, newest, older, wanted - unavailable)


def _shrink_to(cluster: "SimulatedCluster", older: list[SimReplicaSet], newest: SimReplicaSet, most: int) -> None:
    """The Deployment was scaled down: older ReplicaSets give up the excess first."""
    excess = sum(each.replicas for each in older) + newest.replicas - most
    for each in (*older, newest):
        cut = min(each.replicas, max(0, excess))
        _resize(cluster, each, each.replicas - cut)
        excess -= cut


def _scale_down_older(
    cluster: "SimulatedCluster", newest: SimReplicaSet, older: list[SimReplicaSet], least_ready: int
) -> None:
    total = newest.replicas + sum(each.replicas for each in older)
    spare = total - least_ready - (newest.replicas - _ready(cluster, newest.uid))
    for each in older:
        broken = min(max(0, spare), each.replicas - min(each.replicas, _ready(cluster, each.uid)))
        _resize(cluster, each, each.replicas - broken)
        spare -= broken
    spare = min(spare, _ready(cluster, newest.uid) + sum(_ready(cluster, each.uid) for each in older) - least_ready)
    for each in older:
        cut = min(max(0, spare), each.replicas)
        _resize(cluster, each, each.replicas - cut)
        spare -= cut


def _ready(cluster: "SimulatedCluster", uid: str) -> int:
    return sum(1 for pod in cluster.owned_pods(uid) if pod.ready and pod.live)


def _drop_history(cluster: "SimulatedCluster", older: list[SimReplicaSet], most: int) -> None:
    empty = [each for each in older if not each.replicas and not cluster.owned_pods(each.uid)]
    for each in empty[: max(0, len(empty) - most)]:
        cluster.forget_set(each)


def _write_status(cluster: "SimulatedCluster", found: SimObject, newest: SimReplicaSet) -> None:
    ready = sum(_ready(cluster, each.uid) for each in cluster.sets_of(found.uid))
    updated = _ready(cluster, newest.uid)
    if (ready, updated) != (found.ready, found.updated):
        found.progress_ms = cluster.now_ms
    done = updated == found.replicas and ready == updated
    deadline = found.progress_ms + 1000 * int(found.spec.get("progressDeadlineSeconds", _DEADLINE_SECONDS))
    condition = "Available" if done else "Progressing" if cluster.now_ms < deadline else "ProgressDeadlineExceeded"
    if not done and cluster.now_ms < deadline:
        cluster.after("deployment", found.uid, deadline - cluster.now_ms)
    write_status(cluster, found, (ready, updated, condition))


def write_status(cluster: "SimulatedCluster", found: SimObject, status: tuple[int, int, str]) -> None:
    """Write (ready, updated, condition) with the generation that was looked at, if anything is new."""
    if status == (found.ready, found.updated, found.condition) and found.observed == found.generation:
        return
    found.ready, found.updated, found.condition = status
    found.observed = found.generation
    cluster.touch_object(found)


# --- ReplicaSet ------------------------------------------------------------------------------------------------------


def sync_replica_set(cluster: "SimulatedCluster", uid: str) -> None:
    """One pass of the ReplicaSet controller: as many live pods as asked for."""
    found = cluster.replica_sets.get(uid)
    if found is None or cluster.objects[found.owner].deleting:
        return
    live = [pod for pod in cluster.owned_pods(uid) if pod.live]
    refusal = _create(cluster, found, found.replicas - len(live))
    for pod in sorted(live, key=lambda pod: _first_to_go(cluster, pod))[: max(0, len(live) - found.replicas)]:
        cluster.delete_pod(pod)
    if (found.observed, found.refusal) != (found.generation, refusal):
        found.observed, found.refusal = found.generation, refusal
        cluster.touch(REPLICA_SETS, uid)
        cluster.touch_object(cluster.objects[found.owner])
    cluster.wake(found.owner)


def _create(cluster: "SimulatedCluster", found: SimReplicaSet, missing: int) -> str:
    for _ in range(missing):
        name = pod_name(cluster, found.name)
        refusal = cluster.refusal(found.namespace, name)
        if refusal:
            cluster.after("replicaset", found.uid, 1000)
            return refusal
        cluster.create_pod(found.uid, found.namespace, name, found.template)
    return ""


def pod_name(cluster: "SimulatedCluster", base: str) -> str:
    """A name that no pod has, made from the owner's."""
    return f"{base}-{''.join(cluster.rng.choices(_ALPHABET, k=8))}"


def _first_to_go(cluster: "SimulatedCluster", pod: SimPod) -> tuple[bool, bool, bool, int, int, int]:
    """Kubernetes' order: without a node, not running, not ready, doubled on its node, youngest."""
    company = sum(1 for each in cluster.pods_on.get(pod.node, {}).values() if each.owner == pod.owner)
    return (bool(pod.node), pod.phase == "Running", pod.ready, -company, -pod.ready_ms, -pod.created)


# --- garbage collection ----------------------------------------------------------------------------------------------


def collect(cluster: "SimulatedCluster", uid: str) -> None:
    """Foreground deletion: pods first, then ReplicaSets, then the object itself."""
    found = cluster.objects.get(uid)
    if found is None or not found.deleting:
        return
    sets = cluster.sets_of(uid) if found.api == DEPLOYMENT else []
    for owner in (uid, *(each.uid for each in sets)):
        for pod in cluster.owned_pods(owner):
            cluster.delete_pod(pod)
    for each in sets:
        if not cluster.owned_pods(each.uid):
            cluster.forget_set(each)
    if not cluster.sets_of(uid) and not cluster.owned_pods(uid):
        cluster.forget_object(found)
    else:
        cluster.after("collector", uid, max(cluster.timing.collector, 200))

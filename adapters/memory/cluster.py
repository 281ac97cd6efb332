"""A simulated member cluster: an API server's storage, and the parts that work on it, moved by `step` alone.

Nothing here waits or has a thread: each part (controllers, collector, scheduler, kubelets) puts what it will do next
on one time-ordered queue, and `step(now)` does all that is due. Equal seeds and equal calls give equal clusters.
"""

import heapq
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from adapters.memory import controllers, jobs, kubelet, scheduler, statefulsets
from adapters.memory.cluster_manifests import check, object_key, read_template
from adapters.memory.cluster_state import (
    DEPLOYMENT,
    JOB,
    META,
    NODES,
    OBJECTS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SET,
    PodShape,
    SimLease,
    SimNode,
    SimObject,
    SimPod,
    SimReplicaSet,
    Template,
    Timing,
    shown_requests,
)
from federation.domain.errors import Conflict, Invalid
from federation.domain.events import Taint
from federation.domain.member import (
    GENERATION_ANNOTATION,
    REVISION_LABEL,
    SYSTEM_NAMESPACE,
    TEAM_LABEL,
    VERSION_ANNOTATION,
    WORKLOAD_ANNOTATION,
    MemberObject,
    ObjectKey,
)
from federation.domain.records import Orders
from federation.domain.resources import parse_offered

KUBERNETES_VERSION = "v1.36.3"
_RECONCILERS: Mapping[str, tuple[str, str]] = {
    DEPLOYMENT: ("deployment", OBJECTS),
    STATEFUL_SET: ("statefulset", OBJECTS),
    JOB: ("job", OBJECTS),
}


class Watcher(Protocol):
    """Is told what was touched: a kind of `cluster_state` and the uid or name."""

    def note(self, kind: str, key: str) -> None: ...


class SimulatedCluster:
    """One member. Its verbs are the API server's and those of the world outside (nodes that fail)."""

    def __init__(
        self, name: str, *, seed: int = 0, timing: Timing | None = None, labels: Mapping[str, str] = {}
    ) -> None:
        self.name = name
        self.labels = dict(labels)
        self.timing = timing or Timing()
        self.rng = random.Random(f"{name}/{seed}")
        self.now_ms = 0
        self.rv = 0
        self.lag: dict[str, int] = {}
        self.quotas: dict[str, int] = {}
        self.budgets: dict[str, int] = {}
        self.nodes: dict[str, SimNode] = {}
        self.pods: dict[str, SimPod] = {}
        self.objects: dict[str, SimObject] = {}
        self.replica_sets: dict[str, SimReplicaSet] = {}
        self.namespaces: dict[str, str] = {"default": "", "kube-system": "", SYSTEM_NAMESPACE: ""}
        self.orders = Orders()
        self.lease: SimLease | None = None
        self.watchers: list[Watcher] = []
        self.uids: dict[ObjectKey, str] = {}
        self.pod_uids: dict[tuple[str, str], str] = {}
        self.pods_of: dict[str, dict[str, SimPod]] = {}
        self.pods_on: dict[str, dict[str, SimPod]] = {}
        self.usage: dict[str, dict[str, int]] = {}
        self.pending: dict[str, SimPod] = {}
        self.hopeless: dict[str, SimPod] = {}
        self._sets: dict[str, dict[str, SimReplicaSet]] = {}
        self._templates: dict[str, tuple[int, Template]] = {}
        self._queue: list[tuple[int, int, str, str]] = []
        self._queued: dict[tuple[str, str], int] = {}
        self._count = 0
        self._held: dict[str, set[str]] = {}
        self._work: Mapping[str, Callable[[SimulatedCluster, str], None]] = {
            "deployment": controllers.sync_deployment,
            "replicaset": controllers.sync_replica_set,
            "collector": controllers.collect,
            "statefulset": statefulsets.sync,
            "job": jobs.sync,
            "scheduler": scheduler.run,
            "kubelet": kubelet.sync_pod,
            "nodes": kubelet.sync_node,
        }

    # --- time ----------------------------------------------------------------------------------------------------

    def step(self, now_ms: int) -> None:
        """Do all that is due by *now_ms*, in order of time. Time never goes back here, whatever the clock does."""
        while self._queue and self._queue[0][0] <= now_ms:
            due, _, part, key = heapq.heappop(self._queue)
            if self._queued.get((part, key)) != due:
                continue
            del self._queued[part, key]
            self.now_ms = max(self.now_ms, due)
            if part in self._held:
                self._held[part].add(key)
            else:
                self._work[part](self, key)
        self.now_ms = max(self.now_ms, now_ms)

    def next_due_ms(self) -> int | None:
        """When something will happen by itself; None: nothing will."""
        return self._queue[0][0] if self._queue else None

    def after(self, part: str, key: str, delay_ms: int) -> None:
        """*part* looks at *key* after a delay (and its lag), or earlier if that was planned already."""
        due = self.now_ms + max(1, delay_ms + self.lag.get(part, 0))
        planned = self._queued.get((part, key))
        if planned is None or due < planned:
            self._count += 1
            self._queued[part, key] = due
            heapq.heappush(self._queue, (due, self._count, part, key))

    def resume(self) -> None:
        """After a restart every part looks at everything: what it does next is not stored, it follows from what is."""
        for uid in (*self.objects, *self.replica_sets):
            self.wake(uid)
        for name in self.nodes:
            self.pods_on.setdefault(name, {})
            self.after("nodes", name, 0)
        for pod in self.pods.values():
            self.reconsider_one(pod)
            if pod.due_ms:
                self.after("kubelet", pod.uid, pod.due_ms - self.now_ms)

    def hold(self, part: str) -> None:
        """Stop *part* (`deployment`, `replicaset`, `scheduler`, ...) until it is released."""
        self._held.setdefault(part, set())

    def release(self, part: str) -> None:
        """Let *part* go on with what it missed."""
        for key in sorted(self._held.pop(part, ())):
            self.after(part, key, 0)

    def jitter(self, base_ms: int) -> int:
        """A kubelet's delay."""
        return base_ms + self.rng.randint(0, self.timing.jitter)

    # --- storage -------------------------------------------------------------------------------------------------

    def touch(self, kind: str, key: str) -> None:
        """*key* changed: tell the watchers."""
        self.rv += 1
        for watcher in self.watchers:
            watcher.note(kind, key)

    def new_uid(self) -> str:
        """A random uid from the cluster's seed."""
        text = f"{self.rng.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def touch_object(self, found: SimObject) -> None:
        """An object was written: a new resourceVersion."""
        self.touch(OBJECTS, found.uid)
        found.rv = self.rv

    def wake(self, uid: str) -> None:
        """The controller of *uid* (an object or a ReplicaSet) looks at it again."""
        found = self.objects.get(uid)
        if found is None:
            if uid in self.replica_sets:
                self.after("replicaset", uid, self.timing.controller)
            return
        if found.deleting:
            self.after("collector", uid, self.timing.collector)
        elif found.api in _RECONCILERS:
            self.after(_RECONCILERS[found.api][0], uid, self.timing.controller)

    def template_of(self, found: SimObject) -> Template:
        """The pod template that the object has now."""
        cached = self._templates.get(found.uid)
        if cached is None or cached[0] != found.generation:
            cached = self._templates[found.uid] = (found.generation, read_template(found.manifest))
        return cached[1]

    def sets_of(self, uid: str) -> list[SimReplicaSet]:
        """The ReplicaSets of a Deployment, oldest first."""
        return list(self._sets.get(uid, {}).values())

    def owned_pods(self, uid: str) -> list[SimPod]:
        """The pods of a ReplicaSet, StatefulSet or Job."""
        return list(self.pods_of.get(uid, {}).values())

    # --- pods ----------------------------------------------------------------------------------------------------

    def add_pod(self, pod: SimPod) -> None:
        """A pod comes into being; without a node the scheduler sees it."""
        self.adopt_pod(pod)
        self.reconsider_one(pod)
        self.touch(PODS, pod.uid)

    def adopt_pod(self, pod: SimPod) -> None:
        """A pod takes its place among the others."""
        self.pods[pod.uid] = pod
        self.pod_uids[pod.namespace, pod.name] = pod.uid
        self.pods_of.setdefault(pod.owner, {})[pod.uid] = pod
        if pod.node:
            self.occupy(pod)

    def reconsider_one(self, pod: SimPod) -> None:
        """The scheduler looks at a pod that has no node."""
        if not pod.node and pod.live:
            self.pending[pod.uid] = pod
            self.after("scheduler", "", self.timing.scheduler)

    def create_pod(self, owner: str, namespace: str, name: str, template: Template) -> SimPod:
        """What a controller does for each pod that is missing."""
        pod = SimPod(
            uid=self.new_uid(),
            namespace=namespace,
            name=name,
            shape=template.shape,
            created=self.rv,
            owner=owner,
            digest=template.digest,
            placement=template.placement,
            revision=template.revision,
        )
        self.add_pod(pod)
        return pod

    def refusal(self, namespace: str, name: str) -> str:
        """Why a pod may not be created in *namespace* now, in an admission plugin's words; empty: it may."""
        most = self.quotas.get(namespace)
        if most is None:
            return ""
        used = sum(1 for pod in self.pods.values() if pod.namespace == namespace and not pod.terminal)
        if used < most:
            return ""
        return f'pods "{name}" is forbidden: exceeded quota: pods, requested: pods=1, used: pods={used}, limited: pods={most}'

    def occupy(self, pod: SimPod) -> None:
        """*pod* takes its requests of its node."""
        self.pods_on.setdefault(pod.node, {})[pod.uid] = pod
        if not pod.terminal:
            self._take(pod, 1)

    def vacate(self, pod: SimPod) -> None:
        """A pod that has ended frees its requests; others that wait may fit now."""
        if pod.node:
            self._take(pod, -1)
            self.reconsider()

    def _take(self, pod: SimPod, sign: int) -> None:
        used = self.usage.setdefault(pod.node, {})
        used["pods"] = used.get("pods", 0) + sign
        for name, value in pod.shape.requests.items():
            used[name] = used.get(name, 0) + sign * value

    def reconsider(self) -> None:
        """Something was freed or added: the scheduler tries again what did not fit."""
        if self.hopeless:
            self.pending.update(self.hopeless)
            self.hopeless.clear()
        if self.pending:
            self.after("scheduler", "", self.timing.scheduler)

    def delete_pod(self, pod: SimPod, grace_ms: int | None = None) -> None:
        """Mark for deletion; its kubelet stops it, and one without a node, or one that has ended, is gone at once."""
        if pod.deleting:
            return
        if not pod.node or pod.terminal:
            self.forget_pod(pod)
            return
        pod.deleting = True
        delay = self.jitter(self.timing.stop)
        kubelet.due_in(self, pod, delay if grace_ms is None else min(delay, max(1, grace_ms)))
        self.touch(PODS, pod.uid)
        self.wake(pod.owner)

    def forget_pod(self, pod: SimPod) -> None:
        """The pod is no more."""
        del self.pods[pod.uid]
        self.pod_uids.pop((pod.namespace, pod.name), None)
        self.pods_of[pod.owner].pop(pod.uid)
        if not self.pods_of[pod.owner]:
            del self.pods_of[pod.owner]
        self.pending.pop(pod.uid, None)
        self.hopeless.pop(pod.uid, None)
        if pod.node:
            self.pods_on[pod.node].pop(pod.uid)
            if not pod.terminal:
                self.vacate(pod)
        self.touch(PODS, pod.uid)
        self.wake(pod.owner)

    # --- the world outside ---------------------------------------------------------------------------------------

    def add_node(self, name: str, allocatable: Mapping[str, str], **more: Any) -> SimNode:
        """A node joins: *more* are `labels`, `taints` and `unschedulable`."""
        if name in self.nodes:
            raise Conflict(f'nodes "{name}" already exists')
        quantities = {"pods": "110", **allocatable}
        labels = {"kubernetes.io/hostname": name, **more.pop("labels", {})}
        node = SimNode(name=name, allocatable=quantities, amounts=parse_offered(quantities), labels=labels, **more)
        self.nodes[name] = node
        self.pods_on.setdefault(name, {})
        self.change_node(node)
        return node

    def change_node(self, node: SimNode) -> None:
        """A node was written."""
        self.touch(NODES, node.name)
        self.reconsider()

    def cordon(self, name: str, unschedulable: bool = True) -> None:
        """Set spec.unschedulable."""
        self.nodes[name].unschedulable = unschedulable
        self.change_node(self.nodes[name])

    def taint(self, name: str, *taints: Taint) -> None:
        """Replace a node's taints; NoExecute is not acted upon here."""
        self.nodes[name].taints = taints
        self.change_node(self.nodes[name])

    def fail_node(self, name: str) -> None:
        """The kubelet falls silent: not ready at once; after the tolerance its pods are marked for deletion."""
        kubelet.lose_node(self, self.nodes[name])

    def recover_node(self, name: str) -> None:
        """The kubelet is back: what was marked for deletion goes, the rest becomes ready again."""
        kubelet.regain_node(self, self.nodes[name])

    def remove_node(self, name: str) -> None:
        """The Node object is deleted, and its pods with it."""
        del self.nodes[name]
        self.touch(NODES, name)
        for pod in list(self.pods_on.get(name, {}).values()):
            self.forget_pod(pod)
        self.pods_on.pop(name, None)
        self.usage.pop(name, None)

    def add_foreign_pod(self, shape: PodShape, namespace: str = "default", name: str = "") -> SimPod:
        """Someone else's pod, without a controller."""
        digest = Template(digest="", shape=shape)
        return self.create_pod("", namespace, name or f"foreign-{self.new_uid()[:8]}", digest)

    # --- the API server's verbs ----------------------------------------------------------------------------------

    def find(self, key: ObjectKey) -> SimObject | None:
        """The object of that name."""
        uid = self.uids.get(key)
        return self.objects[uid] if uid else None

    def apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> SimObject:
        """Server-side apply: with a *uid* onto that object at that version, without only if there is none."""
        key = object_key(manifest)
        before = self.find(key)
        if uid and (before is None or before.uid != uid or str(before.rv) != resource_version):
            raise Conflict(f"{key.name}: the object has been modified or is another; read it again")
        if not uid and before is not None:
            raise Conflict(f"{key.api} {key.namespace}/{key.name} already exists")
        if key.namespace not in self.namespaces:
            raise Invalid(f'namespaces "{key.namespace}" not found', "/metadata/namespace")
        check(key, manifest, before)
        if before is not None and before.manifest == manifest:
            return before
        found = self._create(key, manifest) if before is None else self._update(before, manifest)
        self.touch_object(found)
        self.wake(found.uid)
        return found

    def _create(self, key: ObjectKey, manifest: Mapping[str, Any]) -> SimObject:
        found = SimObject(
            uid=self.new_uid(), api=key.api, namespace=key.namespace, name=key.name, manifest=dict(manifest)
        )
        found.progress_ms = self.now_ms
        self.objects[found.uid], self.uids[key] = found, found.uid
        return found

    def _update(self, before: SimObject, manifest: Mapping[str, Any]) -> SimObject:
        if (manifest.get("spec") or {}) != before.spec:
            before.generation += 1
            before.progress_ms = self.now_ms
        before.manifest = dict(manifest)
        return before

    def scale(self, key: ObjectKey, replicas: int | None) -> None:
        """Another manager (an autoscaler) sets spec.replicas, or gives it up (None)."""
        found = self.find(key)
        if found is None:
            raise Invalid(f"{key.name} not found")
        found.scaled = replicas
        found.generation += 1
        self.touch_object(found)
        self.wake(found.uid)

    def delete(self, key: ObjectKey, uid: str) -> None:
        """Foreground deletion; an absent object is no error."""
        found = self.find(key)
        if found is None:
            return
        if uid and found.uid != uid:
            raise Conflict(f"{key.name}: precondition failed: uid is {found.uid}")
        if not found.deleting:
            found.deleting = True
            found.generation += 1
            self.touch_object(found)
            self.after("collector", found.uid, self.timing.collector)

    def forget_object(self, found: SimObject) -> None:
        """The object is no more."""
        del self.objects[found.uid]
        self.uids.pop(found.key, None)
        self._templates.pop(found.uid, None)
        self.touch(OBJECTS, found.uid)

    def add_set(self, made: SimReplicaSet) -> None:
        """A ReplicaSet comes into being."""
        self.adopt_set(made)
        self.touch(REPLICA_SETS, made.uid)

    def adopt_set(self, made: SimReplicaSet) -> None:
        """A ReplicaSet takes its place among the others."""
        self.replica_sets[made.uid] = made
        self._sets.setdefault(made.owner, {})[made.uid] = made

    def forget_set(self, found: SimReplicaSet) -> None:
        """The ReplicaSet is no more."""
        del self.replica_sets[found.uid]
        self._sets[found.owner].pop(found.uid)
        if not self._sets[found.owner]:
            del self._sets[found.owner]
        self.touch(REPLICA_SETS, found.uid)

    def seen(self, found: SimObject) -> MemberObject:
        """The object as its agent reads it."""
        controlled = found.api in _RECONCILERS
        sets = self.sets_of(found.uid)
        behind = found.observed < found.generation or any(each.observed < each.generation for each in sets)
        return MemberObject(
            key=found.key,
            uid=found.uid,
            resource_version=str(found.rv),
            placement=found.placement,
            workload=found.annotations.get(WORKLOAD_ANNOTATION, ""),
            team=found.labels.get(TEAM_LABEL, ""),
            version=_whole(found.annotations.get(VERSION_ANNOTATION)),
            generation=_whole(found.annotations.get(GENERATION_ANNOTATION)),
            revision=found.labels.get(REVISION_LABEL, ""),
            replicas=found.replicas,
            observed=not controlled or not behind,
            terminating=found.deleting,
            succeeded=found.succeeded,
            failed=found.failed,
            condition=found.condition,
            refusal=found.refusal or next((each.refusal for each in sets if each.refusal), ""),
            requests=shown_requests(self.template_of(found).shape) if controlled else {},
            autoscaler=found.autoscaler,
            owned_replicas=found.scaled is None,
        )

    def write_meta(self, key: str) -> None:
        """The Lease, the orders or a namespace was written."""
        self.touch(META, key)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0

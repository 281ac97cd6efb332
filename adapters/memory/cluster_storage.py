"""The storage of a simulated cluster: nodes, pods, objects and ReplicaSets, what is counted of them, and who is told."""

import random
from collections.abc import Mapping
from typing import Protocol

from adapters.memory.cluster_manifests import read_template
from adapters.memory.cluster_state import (
    DEPLOYMENT,
    JOB,
    NODES,
    OBJECTS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SET,
    SimNode,
    SimObject,
    SimPod,
    SimReplicaSet,
    Template,
    Timing,
)
from adapters.memory.cluster_timeline import Timeline
from federation.domain.member import ObjectKey

CONTROLLED: Mapping[str, str] = {DEPLOYMENT: "deployment", STATEFUL_SET: "statefulset", JOB: "job"}


class Watcher(Protocol):
    """Is told what was touched: a kind of `cluster_state` and the uid or name."""

    def note(self, kind: str, key: str) -> None: ...


class Storage(Timeline):
    """What there is. Every change goes through here, keeps the sums by node right, and wakes whom it concerns."""

    def __init__(self, name: str, seed: int, timing: Timing) -> None:
        super().__init__()
        self.name = name
        self.timing = timing
        self.rng = random.Random(f"{name}/{seed}")
        self.rv = 0
        self.quotas: dict[str, int] = {}
        self.nodes: dict[str, SimNode] = {}
        self.pods: dict[str, SimPod] = {}
        self.objects: dict[str, SimObject] = {}
        self.replica_sets: dict[str, SimReplicaSet] = {}
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
        elif found.api in CONTROLLED:
            self.after(CONTROLLED[found.api], uid, self.timing.controller)

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

    # --- ReplicaSets ---------------------------------------------------------------------------------------------

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
        self.due_in(pod, delay if grace_ms is None else min(delay, max(1, grace_ms)))
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

    def change_node(self, node: SimNode) -> None:
        """A node was written."""
        self.touch(NODES, node.name)
        self.reconsider()

    def due_in(self, pod: SimPod, delay_ms: int) -> None:
        """The kubelet does the next thing with *pod* after a delay."""
        pod.due_ms = self.now_ms + delay_ms
        self.after("kubelet", pod.uid, delay_ms)

    def jitter(self, base_ms: int) -> int:
        """A kubelet's delay."""
        return base_ms + self.rng.randint(0, self.timing.jitter)

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

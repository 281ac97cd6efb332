"""A simulated member cluster: an API server's storage, and the parts that work on it, moved by `step` alone.

Nothing here waits or has a thread: each part (controllers, collector, scheduler, kubelets) puts what it will do next
on one time-ordered queue, and `step(now)` does all that is due. Equal seeds and equal calls give equal clusters.
"""

from collections.abc import Callable, Mapping
from typing import Any

from adapters.memory import controllers, jobs, kubelet, scheduler, statefulsets
from adapters.memory.cluster_manifests import check, object_key
from adapters.memory.cluster_state import (
    META,
    NODES,
    OBJECTS,
    PodShape,
    SimLease,
    SimNode,
    SimObject,
    SimPod,
    Template,
    Timing,
    shown_requests,
)
from adapters.memory.cluster_storage import CONTROLLED, Storage
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


class SimulatedCluster(Storage):
    """One member. Its verbs are the API server's and those of the world outside (nodes that fail).

    To make it worse: `lag` delays a part by milliseconds, `hold` and `release` stop one and let it go on, `quotas`
    bounds the pods of a namespace, `budgets` the ready pods of a placement that evictions must leave.
    """

    def __init__(
        self, name: str, *, seed: int = 0, timing: Timing | None = None, labels: Mapping[str, str] = {}
    ) -> None:
        super().__init__(name, seed, timing or Timing())
        self.labels = dict(labels)
        self.budgets: dict[str, int] = {}
        self.orders = Orders()
        self.lease: SimLease | None = None
        self.namespaces: dict[str, str] = {"default": "", "kube-system": "", SYSTEM_NAMESPACE: ""}
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

    def work(self, part: str, key: str) -> None:
        """A controller, the scheduler or a kubelet looks at *key*."""
        self._work[part](self, key)

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

    def seen(self, found: SimObject) -> MemberObject:
        """The object as its agent reads it."""
        controlled = found.api in CONTROLLED
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

"""What a simulated member cluster stores: nodes, pods, ReplicaSets, objects, its Lease, and the delays of its parts."""

from typing import Any

from msgspec import Struct, field

from federation.domain.events import Taint
from federation.domain.member import PLACEMENT_LABEL, MemberNode, MemberPod, ObjectKey
from federation.domain.resources import format_amounts

DEPLOYMENT = "apps/v1/Deployment"
STATEFUL_SET = "apps/v1/StatefulSet"
JOB = "batch/v1/Job"
UNREACHABLE = "node.kubernetes.io/unreachable"
CORDONED = "node.kubernetes.io/unschedulable"

NODES = "nodes"
PODS = "pods"
OBJECTS = "objects"
REPLICA_SETS = "replicasets"
META = "meta"


class Timing(Struct, frozen=True, kw_only=True):
    """How long the parts take, in milliseconds; *jitter* is the most that is added to what a kubelet does."""

    controller: int = 50
    collector: int = 50
    scheduler: int = 50
    start: int = 300
    stop: int = 300
    jitter: int = 100
    tolerance: int = 30_000
    job_run: int = 5_000


class Tolerance(Struct, frozen=True, kw_only=True):
    """A pod's toleration; an empty key with Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether a pod that has this tolerates *taint*."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


class PodShape(Struct, frozen=True, kw_only=True):
    """What the scheduler and the kubelet need to know of a pod. *run_ms* -1: it runs until it is told to stop."""

    requests: dict[str, int] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[Tolerance, ...] = ()
    priority: int = 0
    run_ms: int = -1


class Template(Struct, frozen=True, kw_only=True):
    """A pod template as read from a manifest; equal *digest*, equal template."""

    digest: str
    shape: PodShape
    placement: str = ""
    revision: str = ""


class SimNode(Struct, kw_only=True):
    """A node. *lost_ms* is when its kubelet fell silent (0: it has not)."""

    name: str
    allocatable: dict[str, str]
    amounts: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    lost_ms: int = 0
    emptied: bool = False
    used: dict[str, str] | None = None

    @property
    def all_taints(self) -> tuple[Taint, ...]:
        """The taints that stand on it and those that its state brings about."""
        lost = (Taint(key=UNREACHABLE, effect="NoSchedule"), Taint(key=UNREACHABLE, effect="NoExecute"))
        cordoned = (Taint(key=CORDONED, effect="NoSchedule"),)
        return (*self.taints, *(lost if self.lost_ms else ()), *(cordoned if self.unschedulable else ()))

    def seen(self) -> MemberNode:
        """The node as the API server tells it."""
        return MemberNode(
            name=self.name,
            allocatable=self.allocatable,
            labels=self.labels,
            taints=self.all_taints,
            unschedulable=self.unschedulable,
            ready=not self.lost_ms,
            used=self.used,
        )


class SimPod(Struct, kw_only=True):
    """A pod. *due_ms* is when its kubelet does the next thing with it; *counted* once its Job has seen its end."""

    uid: str
    namespace: str
    name: str
    shape: PodShape
    created: int
    owner: str = ""
    digest: str = ""
    placement: str = ""
    revision: str = ""
    ordinal: int = 0
    node: str = ""
    phase: str = "Pending"
    ready: bool = False
    ready_ms: int = 0
    deleting: bool = False
    unschedulable: str = ""
    due_ms: int = 0
    counted: bool = False

    @property
    def terminal(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def live(self) -> bool:
        """Neither terminal nor terminating."""
        return not self.deleting and not self.terminal

    def seen(self) -> MemberPod:
        """The pod as the API server tells it."""
        return MemberPod(
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            node=self.node,
            phase=self.phase,
            ready=self.ready,
            terminating=self.deleting,
            unschedulable=self.unschedulable,
            requests=self.shape.requests,
            placement=self.placement,
            revision=self.revision,
        )


class SimReplicaSet(Struct, kw_only=True):
    """The pods of one template of a Deployment."""

    uid: str
    owner: str
    namespace: str
    name: str
    template: Template
    created: int
    replicas: int = 0
    generation: int = 1
    observed: int = 0
    refusal: str = ""


class SimObject(Struct, kw_only=True):
    """An object as applied, with the status that its controller has written. *scaled* overrides the manifest's replicas."""

    uid: str
    api: str
    namespace: str
    name: str
    manifest: dict[str, Any]
    rv: int = 0
    generation: int = 1
    observed: int = 0
    deleting: bool = False
    scaled: int | None = None
    autoscaler: tuple[int, int] | None = None
    condition: str = ""
    refusal: str = ""
    ready: int = 0
    updated: int = 0
    succeeded: int = 0
    failed: int = 0
    progress_ms: int = 0
    finished_ms: int = 0

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.api, self.namespace, self.name)

    @property
    def labels(self) -> dict[str, str]:
        return self.manifest.get("metadata", {}).get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.manifest.get("metadata", {}).get("annotations") or {}

    @property
    def placement(self) -> str:
        return self.labels.get(PLACEMENT_LABEL, "")

    @property
    def spec(self) -> dict[str, Any]:
        return self.manifest.get("spec") or {}

    @property
    def replicas(self) -> int:
        """How many pods it wants to have at once."""
        if self.scaled is not None:
            return self.scaled
        if self.api == JOB:
            parallelism = int(self.spec.get("parallelism", 1))
            return 0 if self.spec.get("suspend") else min(parallelism, int(self.spec.get("completions", parallelism)))
        return int(self.spec.get("replicas", 1)) if self.api in (DEPLOYMENT, STATEFUL_SET) else 0


class SimLease(Struct, kw_only=True):
    """The agents' Lease; *holder* is empty once dropped."""

    uid: str
    holder: str
    transitions: int = 1
    renewed_ms: int = 0
    seconds: float = 15.0


def shown_requests(shape: PodShape) -> dict[str, str]:
    """One pod's requests as Kubernetes writes them."""
    return format_amounts(shape.requests)

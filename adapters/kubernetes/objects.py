"""The parts of Kubernetes objects that are read here; fields that are not named are skipped over, undecoded."""

from typing import Final

import msgspec
from msgspec import Raw, Struct

from federation.domain.member import PLACEMENT_LABEL, REVISION_LABEL
from federation.domain.pods import PodSpec

NOTHING: Final = Raw(b"null")


class Part(Struct, rename="camel", kw_only=True):
    """A part of an object; a null is taken for an absent field wherever a server may write one."""


class Meta(Part, kw_only=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None


class Read(Part, kw_only=True):
    """An object of the API."""

    metadata: Meta


class Condition(Part, kw_only=True):
    """An entry of `status.conditions`."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None


def condition(conditions: list[Condition] | None, kind: str) -> Condition | None:
    """The condition of that type."""
    return next((each for each in conditions or () if each.type == kind), None)


# --- nodes -----------------------------------------------------------------------------------------------------------


class LabelledMeta(Meta, kw_only=True):
    """With all its labels."""

    labels: dict[str, str] | None = None


class NodeTaint(Part, kw_only=True):
    """As in Kubernetes."""

    key: str = ""
    value: str | None = None
    effect: str = ""


class NodeSpec(Part, kw_only=True):
    """What was asked of the node."""

    unschedulable: bool | None = None
    taints: list[NodeTaint] | None = None


class NodeStatus(Part, kw_only=True):
    """What its kubelet says."""

    allocatable: dict[str, str] | None = None
    conditions: list[Condition] | None = None


class Node(Read, kw_only=True):
    """A Node; its list of images, by far its largest part, is skipped."""

    metadata: LabelledMeta
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


# --- pods ------------------------------------------------------------------------------------------------------------


class PodLabels(Part, kw_only=True):
    """The two labels that placing needs; there may be any number of others."""

    placement: str = msgspec.field(default="", name=PLACEMENT_LABEL)
    revision: str = msgspec.field(default="", name=REVISION_LABEL)


class PodMeta(Meta, kw_only=True):
    """With the labels that are needed."""

    labels: PodLabels | None = None


class ContainerPart(Part, kw_only=True):
    """What of a container decides the pod's requests, left as bytes: most pods are made from few templates."""

    resources: Raw = NOTHING
    restart_policy: str | None = None


class PodSpecPart(Part, kw_only=True):
    """What of a pod's spec decides its requests, and the node."""

    node_name: str | None = None
    containers: list[ContainerPart] | None = None
    init_containers: list[ContainerPart] | None = None
    resources: Raw = NOTHING
    overhead: Raw = NOTHING


class PodStatus(Part, kw_only=True):
    """How the pod is."""

    phase: str | None = None
    conditions: list[Condition] | None = None


class Pod(Read, kw_only=True):
    """A Pod."""

    metadata: PodMeta
    spec: PodSpecPart | None = None
    status: PodStatus | None = None


# --- placed objects --------------------------------------------------------------------------------------------------


class OwnerReference(Part, kw_only=True):
    """Who controls an object."""

    uid: str = ""
    controller: bool | None = None


class ManagedFields(Part, kw_only=True):
    """Which manager owns which fields."""

    manager: str | None = None
    fields_v1: dict[str, msgspec.Raw] | None = msgspec.field(default=None, name="fieldsV1")


class ControllerMeta(LabelledMeta, kw_only=True):
    """With what says how far a controller has come."""

    generation: int = 0
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None


class PodTemplate(Part, kw_only=True):
    """The template of the pods."""

    spec: PodSpec | None = None


class ControllerSpec(Part, kw_only=True):
    """What Deployments, StatefulSets, ReplicaSets and Jobs ask for; each has some of these."""

    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    paused: bool | None = None
    template: PodTemplate | None = None


class ControllerStatus(Part, kw_only=True):
    """What their controllers say."""

    observed_generation: int | None = None
    replicas: int | None = None
    updated_replicas: int | None = None
    available_replicas: int | None = None
    start_time: str | None = None
    active: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    conditions: list[Condition] | None = None


class Controller(Read, kw_only=True):
    """A Deployment, StatefulSet, Job, or any object that has some of their fields."""

    metadata: ControllerMeta
    spec: ControllerSpec | None = None
    status: ControllerStatus | None = None


class ReplicaSetSpec(Part, kw_only=True):
    """How many pods it keeps."""

    replicas: int | None = None


class ReplicaSet(Read, kw_only=True):
    """A ReplicaSet; its template is skipped."""

    metadata: ControllerMeta
    spec: ReplicaSetSpec | None = None
    status: ControllerStatus | None = None


class ManagedMeta(ControllerMeta, kw_only=True):
    """With the managers of its fields: read one by one only, for they are long."""

    managed_fields: list[ManagedFields] | None = None


class ManagedController(Controller, kw_only=True):
    """A `Controller` with the managers of its fields."""

    metadata: ManagedMeta


class ManagedPlain(Read, kw_only=True):
    """An object of a kind without replicas: only its marks are read."""

    metadata: ManagedMeta


class ScaleTarget(Part, kw_only=True):
    """What an autoscaler scales."""

    api_version: str | None = None
    kind: str = ""
    name: str = ""


class AutoscalerSpec(Part, kw_only=True):
    """Its target and bounds."""

    scale_target_ref: ScaleTarget | None = None
    min_replicas: int | None = None
    max_replicas: int = 0


class HorizontalPodAutoscaler(Read, kw_only=True):
    """A HorizontalPodAutoscaler."""

    metadata: Meta
    spec: AutoscalerSpec | None = None

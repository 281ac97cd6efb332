"""Events and actions as they stand on the wire: CloudEvents types, msgspec Structs, camelCase, every number bounded.

An event is a whole observation (past tense), an action an order for a whole desired state (imperative).
Quantities are Kubernetes strings here; the fold turns them into integers. The catalogue is that of the
published AsyncAPI document, which is made from these types.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

MAX_COUNT: Final = 2**31 - 1
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Serial = Annotated[int, Meta(ge=0, le=2**53)]
Label = Annotated[str, Meta(min_length=1, max_length=63)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]
Text = Annotated[str, Meta(max_length=1024)]
Quantities = Annotated[dict[Name, Annotated[str, Meta(max_length=64)]], Meta(max_length=64)]
Labels = Annotated[
    dict[Annotated[str, Meta(max_length=317)], Annotated[str, Meta(max_length=256)]], Meta(max_length=256)
]


class Wire(Struct, frozen=True, rename="camel", omit_defaults=False, kw_only=True, gc=False):
    """What all wire types share: camelCase names, values that do not change."""


class Taint(Wire, frozen=True, kw_only=True):
    """A node's or a cluster's taint, as in Kubernetes."""

    key: Name
    value: Annotated[str, Meta(max_length=253)] = ""
    effect: Annotated[str, Meta(max_length=32)] = "NoSchedule"


class Orders(Wire, frozen=True, kw_only=True):
    """How far an agent has stored that it carried out the orders of a generation."""

    generation: Serial = 0
    done: Serial = 0


class UnboundPods(Wire, frozen=True, kw_only=True):
    """Pods of others that wait for a node, by shape; *unschedulable* of them the member's scheduler has given up on."""

    requests: Quantities
    count: Count
    unschedulable: Count = 0


class BoundPlacement(Wire, frozen=True, kw_only=True):
    """Replicas of one placement that are bound on a node, neither terminal nor terminating."""

    placement: Label
    bound: Count
    revision: Annotated[str, Meta(max_length=63)] = ""


class ClusterObserved(Wire, frozen=True, kw_only=True):
    """The heartbeat: what holds for the cluster as a whole. *orders* is absent where no agent carries out orders."""

    cluster: Label
    kind: Annotated[str, Meta(max_length=32)] = "ordinary"
    kubernetes_version: Annotated[str, Meta(max_length=64)] = ""
    nodes: Count = 0
    orders: Orders | None = None
    labels: Labels = {}
    taints: Annotated[tuple[Taint, ...], Meta(max_length=64)] = ()
    apis: Annotated[tuple[Name, ...], Meta(max_length=1024)] = ()
    unbound: Annotated[tuple[UnboundPods, ...], Meta(max_length=1024)] = ()


class NodeObserved(Wire, frozen=True, kw_only=True):
    """One node, whole. *requested* counts every pod on it that is not terminal."""

    cluster: Label
    node: Name
    allocatable: Quantities
    requested: Quantities = {}
    used: Quantities | None = None
    devices: Annotated[dict[Name, Annotated[tuple[Count, ...], Meta(max_length=256)]], Meta(max_length=16)] | None = (
        None
    )
    unschedulable: bool = False
    conditions: Annotated[dict[Name, Annotated[str, Meta(max_length=32)]], Meta(max_length=64)] = {}
    labels: Labels = {}
    taints: Annotated[tuple[Taint, ...], Meta(max_length=64)] = ()
    placements: Annotated[tuple[BoundPlacement, ...], Meta(max_length=4096)] = ()


class NodeGone(Wire, frozen=True, kw_only=True):
    """A node that is no more."""

    cluster: Label
    node: Name


class Shortage(Wire, frozen=True, kw_only=True):
    """So many replicas that the member does not run, and its words for why."""

    count: Count = 0
    reason: Text = ""


class Autoscaler(Wire, frozen=True, kw_only=True):
    """The HorizontalPodAutoscaler that targets the placement's object."""

    min_replicas: Count = 0
    max_replicas: Count = 0


class PlacementObserved(Wire, frozen=True, kw_only=True):
    """One placement's object and pods, whole.

    *version* is the one that stands on the object (0: no object), *observed* whether its controllers (for a
    Deployment the ReplicaSets too) have seen it. *live* counts pods that are neither terminal nor terminating,
    unbound included. *gone* says that object, ReplicaSets and pods were absent in a list read from the server.
    *updated* counts bound pods of the newest revision. *generation* and *done* are the agent's stored orders.
    """

    cluster: Label
    placement: Label
    generation: Serial = 0
    done: Serial = 0
    version: Serial = 0
    observed: bool = False
    gone: bool = False
    revision: Annotated[str, Meta(max_length=63)] = ""
    workload: Annotated[str, Meta(max_length=63)] = ""
    team: Annotated[str, Meta(max_length=63)] = ""
    namespace: Annotated[str, Meta(max_length=63)] = ""
    name: Annotated[str, Meta(max_length=253)] = ""
    requests: Quantities = {}
    desired: Count = 0
    live: Count = 0
    bound: Count = 0
    ready: Count = 0
    updated: Count = 0
    succeeded: Count = 0
    failed: Count = 0
    condition: Annotated[str, Meta(max_length=64)] = ""
    autoscaler: Autoscaler | None = None
    unschedulable: Shortage = Shortage()
    refused: Shortage = Shortage()


class ActionFinished(Wire, frozen=True, kw_only=True):
    """An order came to an end; it only hastens what the observations will confirm."""

    cluster: Label
    order: Serial
    placement: Annotated[str, Meta(max_length=63)] = ""
    generation: Serial = 0
    version: Serial = 0
    outcome: Annotated[str, Meta(pattern="^(applied|refused|failed)$")] = "applied"
    reason: Text = ""


class ResyncStarted(Wire, frozen=True, kw_only=True):
    """From here every object of the cluster is told again."""

    cluster: Label
    resync: Label


class ResyncFinished(Wire, frozen=True, kw_only=True):
    """Every object has been told; what is not in these lists is no more."""

    cluster: Label
    resync: Label
    generation: Serial = 0
    done: Serial = 0
    nodes: Annotated[tuple[Name, ...], Meta(max_length=100_000)] = ()
    placements: Annotated[tuple[Label, ...], Meta(max_length=1_000_000)] = ()


class ClusterLeft(Wire, frozen=True, kw_only=True):
    """The cluster has left the federation."""

    cluster: Label


Event = (
    ClusterObserved
    | NodeObserved
    | NodeGone
    | PlacementObserved
    | ActionFinished
    | ResyncStarted
    | ResyncFinished
    | ClusterLeft
)


class PlacementWanted(Wire, frozen=True, kw_only=True):
    """Order: this placement stands at *version* with so many replicas of *manifest*.

    With *floorAtBound* the replicas fall to max(*replicas*, what is bound when the agent reads it), never rise.
    """

    order: Serial
    generation: Serial
    placement: Label
    version: Serial
    workload: Annotated[str, Meta(max_length=63)] = ""
    team: Label
    namespace: Label
    name: Name
    revision: Annotated[str, Meta(max_length=63)]
    replicas: Count
    floor_at_bound: bool = False
    manifest: dict[str, Any]


class PlacementUnwanted(Wire, frozen=True, kw_only=True):
    """Order: this placement's object and pods go, up to *version*."""

    order: Serial
    generation: Serial
    placement: Label
    version: Serial


class PodName(Wire, frozen=True, kw_only=True):
    """One pod, by name and uid."""

    name: Name
    uid: Name
    namespace: Annotated[str, Meta(max_length=63)] = ""


class PodsEvict(Wire, frozen=True, kw_only=True):
    """Order: evict these pods of a placement."""

    order: Serial
    generation: Serial
    placement: Label
    version: Serial
    pods: Annotated[tuple[PodName, ...], Meta(max_length=10_000)]
    grace_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 30


class ResyncRequested(Wire, frozen=True, kw_only=True):
    """Order: tell everything again."""

    order: Serial
    generation: Serial
    reason: Text = ""


Action = PlacementWanted | PlacementUnwanted | PodsEvict | ResyncRequested

EVENT_TYPES: Final[Mapping[str, type[Struct]]] = {
    "federation.cluster.observed.v1": ClusterObserved,
    "federation.node.observed.v1": NodeObserved,
    "federation.node.gone.v1": NodeGone,
    "federation.placement.observed.v1": PlacementObserved,
    "federation.action.finished.v1": ActionFinished,
    "federation.resync.started.v1": ResyncStarted,
    "federation.resync.finished.v1": ResyncFinished,
    "federation.cluster.left.v1": ClusterLeft,
}
ACTION_TYPES: Final[Mapping[str, type[Struct]]] = {
    "federation.placement.wanted.v1": PlacementWanted,
    "federation.placement.unwanted.v1": PlacementUnwanted,
    "federation.pods.evict.v1": PodsEvict,
    "federation.resync.requested.v1": ResyncRequested,
}
TYPE_NAMES: Final[Mapping[type[Struct], str]] = {kind: name for name, kind in {**EVENT_TYPES, **ACTION_TYPES}.items()}


class Stamp(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where an agent's event stands: the epoch is (uid of its Lease, leaseTransitions); *sequence* counts from 1 in it."""

    epoch_uid: str
    epoch: int
    sequence: int


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The CloudEvents attributes of one record. *stamp* is None on actions, whose order is their number."""

    id: str
    type: str
    source: str
    subject: str = ""
    time: str = ""
    stamp: Stamp | None = None

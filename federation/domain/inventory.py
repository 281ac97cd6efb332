"""What an agent knows of its cluster: nodes, pods and placed objects, and the sums that its events are made of.

Fed with changes, it keeps every sum as it goes: a pod that changes costs the same whether the cluster runs ten pods
or a hundred thousand. A listing replaces what was known of its kind: what it did not tell again is removed when it
is complete. Memory is bounded by what is in the cluster: slots, shared strings, one copy of each pod shape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final, TypeVar

from federation.domain.events import BoundPlacement, NodeObserved, UnboundPods
from federation.domain.member import (
    Change,
    Listed,
    MemberNode,
    MemberObject,
    MemberPod,
    NodeChanged,
    NodeDeleted,
    ObjectChanged,
    ObjectDeleted,
    PodChanged,
    PodDeleted,
    Relisted,
    WatchBack,
    WatchLost,
)
from federation.domain.resources import format_amounts
from federation.domain.tally import CountedPod, PlacementView, Tally, bump, foremost

V = TypeVar("V")

NODES: Final = "nodes"
PODS: Final = "pods"
OBJECTS: Final = "objects"
KINDS: Final = frozenset({NODES, PODS, OBJECTS})
MAX_RESOURCES: Final = 64
MAX_LABELS: Final = 256
MAX_TAINTS: Final = 64
MAX_SHAPES: Final = 1024
MAX_PLACEMENTS: Final = 4096
_FIRST: Final = ("cpu", "memory", "pods")


class _Shape:
    """One set of requests, shared by all pods that have it, with how many of them wait for a node."""

    __slots__ = ("key", "pods", "requests", "unschedulable", "waiting")

    def __init__(self, key: tuple[tuple[str, int], ...]) -> None:
        self.key = key
        self.requests = dict(key)
        self.pods = 0
        self.waiting = 0
        self.unschedulable = 0


class _Pod(CountedPod):
    """What is kept of a pod. *listing* is the number of the pod listing that last told of it."""

    __slots__ = ("listing", "shape")

    def __init__(self, pod: MemberPod, shape: _Shape, listing: int) -> None:
        super().__init__(pod)
        self.shape = shape
        self.listing = listing

    def counts_as(self, other: "_Pod | None", names: Iterable[str]) -> bool:
        """Whether the two agree in all of *names*."""
        return other is not None and all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def waits(self) -> bool:
        """Whether it is another's pod that waits for a node."""
        return self.live and not self.node and not self.placement


_ON_NODE: Final = ("node", "shape", "terminal", "live", "placement", "revision")
_COUNTED: Final = (*_ON_NODE, "ready", "unschedulable")


@dataclass(slots=True)
class _Use:
    """What stands on one node: *bound* by (placement, revision). It may be known before the node is."""

    pods: int = 0
    requested: dict[str, int] = field(default_factory=dict)
    bound: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(slots=True)
class _Placed:
    """One placement in this cluster: its objects by uid, its pods counted, nodes that its pods have changed on."""

    objects: dict[str, MemberObject] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    touched: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Dirty:
    """What has changed since it was last taken. *gained* are nodes on which another's pod was newly bound."""

    nodes: set[str] = field(default_factory=set)
    gained: set[str] = field(default_factory=set)
    placements: set[str] = field(default_factory=set)
    waiting: bool = False

    def __bool__(self) -> bool:
        return bool(self.nodes or self.placements or self.waiting)


class Inventory:
    """The cluster as last told; *blind* names what cannot be watched now. Not safe for threads; all is synchronous."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.blind: set[str] = set()
        self._nodes: dict[str, MemberNode] = {}
        self._node_listing: dict[str, int] = {}
        self._uses: dict[str, _Use] = {}
        self._pods: dict[str, _Pod] = {}
        self._shapes: dict[tuple[tuple[str, int], ...], _Shape] = {}
        self._objects: dict[str, tuple[MemberObject, int]] = {}
        self._placed: dict[str, _Placed] = {}
        self._listing = dict.fromkeys(KINDS, 0)
        self._listed: set[str] = set()
        self._dirty = Dirty()

    # --- what happens ------------------------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change]) -> None:
        """Take in *changes*, in order."""
        for change in changes:
            _APPLY[type(change)](self, change)

    @property
    def synced(self) -> bool:
        """Whether nodes, pods and objects have each been listed to the end at least once."""
        return self._listed == KINDS

    def _relisted(self, change: Relisted) -> None:
        self._listing[change.kind] = self._listing.get(change.kind, 0) + 1

    def _complete(self, change: Listed) -> None:
        """What the listing did not tell again is no more."""
        current = self._listing.get(change.kind, 0)
        if change.kind == NODES:
            for name in [name for name, told in self._node_listing.items() if told != current]:
                self._delete_node(name)
        elif change.kind == PODS:
            for uid in [uid for uid, pod in self._pods.items() if pod.listing != current]:
                self._delete_pod(uid)
        elif change.kind == OBJECTS:
            for uid in [uid for uid, (_, told) in self._objects.items() if told != current]:
                self._delete_object(uid)
        self._listed.add(change.kind)

    def _put_node(self, node: MemberNode) -> None:
        name = intern(node.name)
        self._node_listing[name] = self._listing[NODES]
        if self._nodes.get(name) != node:
            self._nodes[name] = node
            self._dirty.nodes.add(name)

    def _delete_node(self, name: str) -> None:
        self._node_listing.pop(name, None)
        if self._nodes.pop(name, None) is not None:
            self._dirty.nodes.add(name)

    def _put_pod(self, pod: MemberPod) -> None:
        before = self._pods.get(pod.uid)
        after = _Pod(pod, self._shape_of(pod.requests), self._listing[PODS])
        if before is not None and after.counts_as(before, _COUNTED):
            before.listing = after.listing
            return
        after.shape.pods += 1
        self._pods[pod.uid] = after
        self._count(after, +1)
        if before is not None:
            self._count(before, -1)
            self._leave_shape(before.shape)
        self._note(before, after)

    def _delete_pod(self, uid: str) -> None:
        before = self._pods.pop(uid, None)
        if before is not None:
            self._count(before, -1)
            self._leave_shape(before.shape)
            self._note(before, None)

    def _put_object(self, found: MemberObject) -> None:
        before, _ = self._objects.get(found.uid, (None, 0))
        self._objects[found.uid] = (found, self._listing[OBJECTS])
        if before is not None and before.placement != found.placement:
            self._leave_placement(before)
        if found.placement:
            self._placed_at(found.placement).objects[found.uid] = found
            if before is None or not _looks_same(before, found):
                self._dirty.placements.add(found.placement)

    def _delete_object(self, uid: str) -> None:
        before, _ = self._objects.pop(uid, (None, 0))
        if before is not None:
            self._leave_placement(before)

    def _leave_placement(self, gone: MemberObject) -> None:
        placed = self._placed.get(gone.placement)
        if placed is not None and placed.objects.pop(gone.uid, None) is not None:
            self._dirty.placements.add(gone.placement)
            self._forget_if_empty(gone.placement)

    # --- sums --------------------------------------------------------------------------------------------------------

    def _shape_of(self, requests: Mapping[str, int]) -> _Shape:
        key = tuple(sorted((intern(name), amount) for name, amount in requests.items()))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = _Shape(key)
        return shape

    def _leave_shape(self, shape: _Shape) -> None:
        shape.pods -= 1
        if not shape.pods:
            self._shapes.pop(shape.key, None)

    def _count(self, pod: _Pod, sign: int) -> None:
        if pod.waits:
            pod.shape.waiting += sign
            pod.shape.unschedulable += sign if pod.unschedulable else 0
        if pod.node and not pod.terminal:
            self._count_on_node(pod, sign)
        if pod.placement:
            placed = self._placed_at(pod.placement)
            placed.tally.count(pod, sign)
            self._forget_if_empty(pod.placement)

    def _count_on_node(self, pod: _Pod, sign: int) -> None:
        use = self._uses.get(pod.node)
        if use is None:
            use = self._uses[pod.node] = _Use()
        use.pods += sign
        for name, amount in pod.shape.requests.items():
            bump(use.requested, name, sign * amount)
        if pod.placement and pod.live:
            bump(use.bound, (pod.placement, pod.revision), sign)
        if not use.pods:
            del self._uses[pod.node]

    def _placed_at(self, placement: str) -> _Placed:
        placed = self._placed.get(placement)
        if placed is None:
            placed = self._placed[intern(placement)] = _Placed()
        return placed

    def _forget_if_empty(self, placement: str) -> None:
        placed = self._placed[placement]
        if not placed.objects and not placed.tally.pods and not placed.touched:
            del self._placed[placement]

    def _note(self, before: _Pod | None, after: _Pod | None) -> None:
        moved = after is None or not after.counts_as(before, _ON_NODE)
        for pod in (before, after):
            if pod is None:
                continue
            if pod.node and moved:
                self._dirty.nodes.add(pod.node)
            if pod.placement:
                self._note_placement(pod, moved)
            self._dirty.waiting |= pod.waits
        if after is not None and after.node and not after.placement and (before is None or not before.node):
            self._dirty.gained.add(after.node)

    def _note_placement(self, pod: _Pod, moved: bool) -> None:
        self._dirty.placements.add(pod.placement)
        if pod.node and moved:
            self._placed_at(pod.placement).touched.add(pod.node)

    # --- what is known -----------------------------------------------------------------------------------------------

    def take_dirty(self) -> Dirty:
        """What has changed since this was last called."""
        taken, self._dirty = self._dirty, Dirty()
        return taken

    def take_touched(self, placement: str) -> set[str]:
        """Nodes on which pods of *placement* sit or sat, and changed, since this was last called."""
        placed = self._placed.get(placement)
        if placed is None:
            return set()
        taken, placed.touched = placed.touched, set()
        self._forget_if_empty(placement)
        return taken

    def nodes(self) -> Iterator[str]:
        """The names of all nodes."""
        return iter(self._nodes)

    def node_count(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def placements(self) -> Iterator[str]:
        """The ids of placements that have an object or pods here."""
        return (name for name, placed in self._placed.items() if placed.objects or placed.tally.pods)

    def view(self, placement: str) -> PlacementView:
        """One placement as last told."""
        placed = self._placed.get(placement)
        if placed is None:
            return PlacementView()
        return PlacementView(object=foremost(placed.objects.values()), tally=placed.tally)

    def node_observed(self, name: str) -> NodeObserved | None:
        """One node, whole; None where there is none."""
        node = self._nodes.get(name)
        if node is None:
            return None
        use = self._uses.get(name, _Use())
        return NodeObserved(
            cluster=self.cluster,
            node=node.name,
            allocatable=_bounded(node.allocatable),
            requested=format_amounts(_bounded({**use.requested, "pods": use.pods})),
            used=_bounded(node.used) if node.used is not None else None,
            devices=node.devices,
            unschedulable=node.unschedulable,
            conditions={"Ready": "True" if node.ready else "False"},
            labels=dict(sorted(node.labels.items())[:MAX_LABELS]),
            taints=node.taints[:MAX_TAINTS],
            placements=_bound_placements(use.bound),
        )

    def unbound(self) -> tuple[UnboundPods, ...]:
        """Pods of others that wait for a node, by shape; beyond the bound the rarest shapes are told as one, the largest."""
        waiting = sorted((shape for shape in self._shapes.values() if shape.waiting), key=_commonest_first)
        told = [_unbound(shape.requests, shape.waiting, shape.unschedulable) for shape in waiting[: MAX_SHAPES - 1]]
        rest = waiting[MAX_SHAPES - 1 :]
        if rest:
            counts = sum(shape.waiting for shape in rest), sum(shape.unschedulable for shape in rest)
            told.append(_unbound(_largest_of(rest), *counts))
        return tuple(told)


def _looks_same(before: MemberObject, after: MemberObject) -> bool:
    """Whether only the resource version differs: nothing that is told has changed."""
    fields = (name for name in before.__struct_fields__ if name != "resource_version")
    return all(getattr(before, name) == getattr(after, name) for name in fields)


def _bounded(amounts: Mapping[str, V]) -> dict[str, V]:
    """At most as many resources as an event may name; the first that everyone needs are kept."""
    if len(amounts) <= MAX_RESOURCES:
        return dict(amounts)
    names = [name for name in _FIRST if name in amounts] + sorted(name for name in amounts if name not in _FIRST)
    return {name: amounts[name] for name in names[:MAX_RESOURCES]}


def _bound_placements(bound: Mapping[tuple[str, str], int]) -> tuple[BoundPlacement, ...]:
    return tuple(
        BoundPlacement(placement=placement, revision=revision, bound=count)
        for (placement, revision), count in sorted(bound.items())[:MAX_PLACEMENTS]
    )


def _commonest_first(shape: _Shape) -> tuple[int, tuple[tuple[str, int], ...]]:
    return (-shape.waiting, shape.key)


def _largest_of(shapes: Iterable[_Shape]) -> dict[str, int]:
    largest: dict[str, int] = {}
    for shape in shapes:
        for name, amount in shape.requests.items():
            largest[name] = max(amount, largest.get(name, 0))
    return largest


def _unbound(requests: Mapping[str, int], count: int, unschedulable: int) -> UnboundPods:
    return UnboundPods(requests=format_amounts(_bounded(requests)), count=count, unschedulable=unschedulable)


_APPLY: Final[Mapping[type, Callable[[Inventory, Any], None]]] = {
    Relisted: Inventory._relisted,
    Listed: Inventory._complete,
    WatchLost: lambda inventory, change: inventory.blind.add(change.source),
    WatchBack: lambda inventory, change: inventory.blind.discard(change.source),
    NodeChanged: lambda inventory, change: inventory._put_node(change.node),
    NodeDeleted: lambda inventory, change: inventory._delete_node(change.name),
    PodChanged: lambda inventory, change: inventory._put_pod(change.pod),
    PodDeleted: lambda inventory, change: inventory._delete_pod(change.uid),
    ObjectChanged: lambda inventory, change: inventory._put_object(change.object),
    ObjectDeleted: lambda inventory, change: inventory._delete_object(change.uid),
}

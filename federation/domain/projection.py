"""The fold: from an event to the view of its cluster. Pure; the rows that a batch needs are loaded before it.

Protocol section 1 gives the order of events, section 3 the move of a replica from held to bound. To apply an event
twice, or an old one late, changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from federation.domain.cluster import NEVER, Cluster, ClusterPhase, Node, Place, Unbound
from federation.domain.errors import Invalid
from federation.domain.events import (
    ActionFinished,
    BoundPlacement,
    ClusterLeft,
    ClusterObserved,
    Event,
    NodeGone,
    NodeObserved,
    PlacementObserved,
    ResyncFinished,
    ResyncStarted,
    Stamp,
)
from federation.domain.placement import Placement, Seen
from federation.domain.reception import Standing, place_of, receive, resync_finished, resync_started, told, unsound
from federation.domain.resources import InvalidAmounts, parse_needed, parse_offered


@dataclass(slots=True)
class ClusterFold:
    """One cluster while a batch is folded: rows loaded under its lock, replaced here, then written in bulk.

    *nodes* and *placements* hold what the batch names (all of the cluster's where `needs_everything` said so);
    *changed_nodes* and *changed_placements* what must be written. *strays* are placements that have ended and of
    which something was seen again.
    """

    cluster: Cluster
    nodes: dict[str, Node] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    changed_nodes: set[str] = field(default_factory=set)
    changed_placements: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)

    def put_node(self, node: Node) -> None:
        """Replace a node's row, keep the cluster's sums, and move replicas between held and bound."""
        before = self.nodes.get(node.name)
        self.nodes[node.name] = node
        self.changed_nodes.add(node.name)
        self._sum(before, node)

    def put_placement(self, placement: Placement) -> None:
        """Replace a placement's row and keep the cluster's sum of what is held."""
        before = self.placements[placement.id]
        if before == placement:
            return
        self.placements[placement.id] = placement
        self.changed_placements.add(placement.id)
        held = with_change(self.cluster.held, before.held_amounts(), placement.held_amounts())
        self.cluster = replace(self.cluster, held=held)

    def _sum(self, before: Node | None, after: Node) -> None:
        old_known, old_used = counted(before)
        new_known, new_used = counted(after)
        if old_known == new_known and old_used == new_used:
            return
        self.cluster = replace(
            self.cluster,
            known=with_change(self.cluster.known, old_known, new_known),
            used=with_change(self.cluster.used, old_used, new_used),
        )


def counted(node: Node | None) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What a node adds to its cluster's known and used sums: nothing unless pods can be put on it."""
    if node is None or node.gone or not node.usable:
        return {}, {}
    return node.allocatable, node.requested


def with_change(total: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """*total* less *before* plus *after*, without zeros."""
    if before == after:
        return dict(total)
    changed = {**total}
    for name in {*before, *after}:
        changed[name] = changed.get(name, 0) - before.get(name, 0) + after.get(name, 0)
    return {name: amount for name, amount in changed.items() if amount}


def needs_everything(event: Event) -> bool:
    """Whether folding *event* looks at every node and placement of its cluster."""
    return isinstance(event, ResyncFinished | ClusterLeft)


def fold(view: ClusterFold, event: Event, stamp: Stamp, appended_ms: int, now_ms: int) -> bool:
    """Apply *event*; whether its content counted. Raises Invalid, before any change, when the content cannot be read."""
    readied = _READERS[type(event)](event) if type(event) in _READERS else None
    reception, standing = receive(
        view.cluster.reception, stamp, opens=isinstance(event, ResyncStarted), at_ms=appended_ms
    )
    view.cluster = replace(view.cluster, reception=reception)
    if standing is not Standing.CURRENT:
        return False
    view.cluster = replace(view.cluster, observed_ms=max(view.cluster.observed_ms, appended_ms))
    counts = _FOLDS[type(event)](Step(view, event, readied, place_of(reception, stamp), now_ms))
    view.cluster = _joined(view.cluster)
    return counts


def _joined(cluster: Cluster) -> Cluster:
    """A cluster is ready once a resync has told all of it."""
    if cluster.phase is not ClusterPhase.JOINING or cluster.stale or cluster.reception.finished == NEVER:
        return cluster
    return replace(cluster, phase=ClusterPhase.READY, definition=cluster.definition + 1)


def note_parked(view: ClusterFold, stamp: Stamp, appended_ms: int) -> None:
    """A record that was parked still had a sequence: it is no gap (1.3)."""
    reception, _ = receive(view.cluster.reception, stamp, opens=False, at_ms=appended_ms)
    view.cluster = replace(view.cluster, reception=reception)


def lose_history(cluster: Cluster, why: str) -> Cluster:
    """The log no longer holds what the hub has not read: only a resync tells what it was."""
    return replace(cluster, reception=unsound(cluster.reception, why))


@dataclass(frozen=True, slots=True)
class Step:
    """One event on its way into *view*, its quantities read, at its *place*."""

    view: ClusterFold
    event: Any
    readied: Any
    place: Place
    now_ms: int

    def is_news(self, row_place: Place | None, name: str) -> bool:
        """Whether the event is newer than what is known of the object *name* (1.2, 1.4)."""
        if row_place is not None:
            return self.place > row_place
        reception = self.view.cluster.reception
        return name in reception.missing or self.place > reception.finished


def _read_node(event: NodeObserved) -> Node:
    try:
        return Node(
            name=event.node,
            usable=not event.unschedulable and event.conditions.get("Ready", "True") == "True",
            allocatable=parse_offered(event.allocatable),
            requested=parse_needed(event.requested),
            used=parse_needed(event.used) if event.used is not None else None,
            devices=event.devices,
            labels=event.labels,
            taints=event.taints,
            bound=_bound_by_revision(event.placements),
        )
    except InvalidAmounts as error:
        raise Invalid(f"node {event.node!r}: {error}") from error


def _bound_by_revision(placements: Iterable[BoundPlacement]) -> dict[str, dict[str, int]]:
    bound: dict[str, dict[str, int]] = {}
    for entry in placements:
        if entry.bound:
            revisions = bound.setdefault(entry.placement, {})
            revisions[entry.revision] = revisions.get(entry.revision, 0) + entry.bound
    return bound


def _read_unbound(event: ClusterObserved) -> tuple[Unbound, ...]:
    try:
        waiting = [(parse_needed(pods.requests), pods.count - pods.unschedulable) for pods in event.unbound]
    except InvalidAmounts as error:
        raise Invalid(f"unbound pods: {error}") from error
    return tuple(Unbound(requests, count) for requests, count in waiting if count > 0)


def _fold_cluster(step: Step) -> bool:
    cluster, event = step.view.cluster, step.event
    if step.place <= cluster.place:
        return False
    after = replace(
        cluster,
        place=step.place,
        kind=event.kind,
        version=event.kubernetes_version,
        labels=event.labels,
        taints=event.taints,
        apis=event.apis,
        unbound=step.readied,
        acts=event.orders is not None,
    )
    if definition_of(after) != definition_of(cluster):
        after = replace(after, definition=cluster.definition + 1)
    step.view.cluster = _with_orders(after, event.orders.generation, event.orders.done) if event.orders else after
    return True


def definition_of(cluster: Cluster) -> tuple[object, ...]:
    """What decides whether the cluster may be chosen (2.2)."""
    return (cluster.phase, cluster.cordoned, cluster.kind, cluster.labels, cluster.taints, cluster.apis, cluster.acts)


def _with_orders(cluster: Cluster, generation: int, done: int) -> Cluster:
    """How far orders are done never goes back within a generation (invariant 4)."""
    known = (cluster.generation, cluster.done)
    if (generation, done) <= known:
        return cluster
    return replace(cluster, generation=generation, done=done)


def _fold_node(step: Step) -> bool:
    view, event = step.view, step.event
    before = view.nodes.get(event.node)
    name = f"nodes/{event.node}"
    if not step.is_news(before.place if before else None, name):
        return False
    after: Node = replace(step.readied, place=step.place)
    _move_bound(view, before, after, step.now_ms)
    view.put_node(after)
    _mark_told(view, name)
    return True


def _fold_node_gone(step: Step) -> bool:
    before = step.view.nodes.get(step.event.node)
    name = f"nodes/{step.event.node}"
    if not step.is_news(before.place if before else None, name):
        return False
    _bury(step.view, before or Node(name=step.event.node, gone=True), step.place, step.now_ms)
    _mark_told(step.view, name)
    return True


def _bury(view: ClusterFold, node: Node, place: Place, now_ms: int) -> None:
    """Leave a tombstone, so that whoever reads what changed sees that the node went."""
    tombstone = Node(name=node.name, gone=True, usable=False, place=place)
    _move_bound(view, node, tombstone, now_ms)
    view.put_node(tombstone)


def _move_bound(view: ClusterFold, before: Node | None, after: Node, now_ms: int) -> None:
    """One event moves a replica from held to bound, or back (3.2, 3.4)."""
    old = before.bound if before else {}
    for placement_id in {*old, *after.bound}:
        if old.get(placement_id) == after.bound.get(placement_id):
            continue
        placement = view.placements.get(placement_id)
        if placement is None or placement.cluster != view.cluster.name:
            continue
        if placement.released and placement_id in after.bound:
            view.strays.add(placement_id)
        delta = after.bound_of(placement_id) - (before.bound_of(placement_id) if before else 0)
        view.put_placement(placement.with_bound(after.name, delta, now_ms))


def _mark_told(view: ClusterFold, name: str) -> None:
    reception = told(view.cluster.reception, name)
    if reception is not view.cluster.reception:
        view.cluster = replace(view.cluster, reception=reception)


def _fold_placement(step: Step) -> bool:
    view, event = step.view, step.event
    placement = view.placements.get(event.placement)
    _mark_told(view, f"placements/{event.placement}")
    if placement is None or placement.cluster != view.cluster.name or step.place <= placement.stamp:
        return False
    if placement.released and (event.live or event.version):
        view.strays.add(placement.id)
    view.cluster = _with_orders(view.cluster, event.generation, event.done)
    view.put_placement(replace(placement.observing(event, step.now_ms), stamp=step.place))
    return True


def _fold_action(step: Step) -> bool:
    event: ActionFinished = step.event
    placement = step.view.placements.get(event.placement)
    if placement is None or placement.version != event.version or event.outcome == "applied":
        return False
    seen = replace(placement.seen, refused=max(1, placement.wanted), refused_reason=event.reason or event.outcome)
    step.view.put_placement(replace(placement, seen=seen))
    return True


def _fold_started(step: Step) -> bool:
    cluster = step.view.cluster
    if step.place <= cluster.reception.started:
        return False
    phase = ClusterPhase.JOINING if cluster.phase is ClusterPhase.LEFT else cluster.phase
    reception = resync_started(cluster.reception, step.event.resync, step.place)
    step.view.cluster = replace(cluster, phase=phase, reception=reception)
    return True


def _fold_finished(step: Step) -> bool:
    view, event = step.view, step.event
    started = view.cluster.reception.started
    if event.resync != view.cluster.reception.resync or step.place <= started:
        return False
    _drop_unlisted(step, started)
    missing = tuple(_not_seen(view, event, started))
    cluster = _with_orders(view.cluster, event.generation, event.done)
    view.cluster = replace(cluster, reception=resync_finished(cluster.reception, step.place, missing))
    return True


def _drop_unlisted(step: Step, started: Place) -> None:
    """What is not listed and was not told since the start goes: observations, never claims (1.4)."""
    view, event = step.view, step.event
    listed_nodes, listed_placements = set(event.nodes), set(event.placements)
    for node in [node for node in view.nodes.values() if node.place < started and node.name not in listed_nodes]:
        if not node.gone:
            _bury(view, node, step.place, step.now_ms)
    for placement in list(view.placements.values()):
        if placement.stamp < started and placement.id not in listed_placements and not placement.released:
            absent = PlacementObserved(cluster=event.cluster, placement=placement.id, gone=True, done=event.done)
            view.put_placement(replace(placement.observing(absent, step.now_ms), stamp=step.place))


def _not_seen(view: ClusterFold, event: ResyncFinished, started: Place) -> Iterable[str]:
    for name in event.nodes:
        node = view.nodes.get(name)
        if node is None or node.place < started:
            yield f"nodes/{name}"
    for placement_id in event.placements:
        placement = view.placements.get(placement_id)
        if placement is not None and placement.stamp < started:
            yield f"placements/{placement_id}"


def _fold_left(step: Step) -> bool:
    """The cluster has left: its capacity leaves the pool, and what was claimed in it is claimed no more."""
    view = step.view
    for node in [node for node in view.nodes.values() if not node.gone]:
        _bury(view, node, step.place, step.now_ms)
    for placement in list(view.placements.values()):
        if not placement.released:
            ended = replace(placement, ended=True, released=True, asks=(), holds={}, bound=0, seen=Seen())
            view.put_placement(replace(ended, stamp=step.place))
    cluster = view.cluster
    view.cluster = replace(
        cluster, phase=ClusterPhase.LEFT, definition=cluster.definition + 1, unbound=(), place=step.place
    )
    return True


_READERS: Final[Mapping[type, Callable[[Any], Any]]] = {NodeObserved: _read_node, ClusterObserved: _read_unbound}
_FOLDS: Final[Mapping[type, Callable[[Step], bool]]] = {
    ClusterObserved: _fold_cluster,
    NodeObserved: _fold_node,
    NodeGone: _fold_node_gone,
    PlacementObserved: _fold_placement,
    ActionFinished: _fold_action,
    ResyncStarted: _fold_started,
    ResyncFinished: _fold_finished,
    ClusterLeft: _fold_left,
}

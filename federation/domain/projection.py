"""The fold: from an event to the view of its cluster. Pure; the rows that a batch needs are loaded before it.

Protocol section 1 gives the order of events, section 3 the move of a replica from held to bound. To apply an event
twice, or an old one late, changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from federation.domain.adoption import heard, with_orphan
from federation.domain.cluster import NEVER, Cluster, ClusterPhase, ClusterStep, Node, Unbound
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
from federation.domain.folding import ClusterFold, Step, Told, with_orders
from federation.domain.reception import Standing, place_of, receive, unsound
from federation.domain.resources import InvalidAmounts, parse_needed, parse_offered
from federation.domain.resyncs import fold_finished, fold_left, fold_started


def needs_everything(event: Event) -> bool:
    """Whether folding *event* looks at every node and placement of its cluster."""
    return isinstance(event, ResyncFinished | ClusterLeft)


def read_event(event: Event, stamp: Stamp, appended_ms: int) -> Told:
    """*event* with its quantities read. Raises Invalid when its content cannot be."""
    reader = _READERS.get(type(event))
    return Told(event, reader(event) if reader is not None else None, stamp, appended_ms)


def fold(view: ClusterFold, told: Told, now_ms: int) -> bool:
    """Apply what was *told*; whether its content counted."""
    cluster, event, stamp = view.cluster, told.event, told.stamp
    opens = isinstance(event, ResyncStarted)
    reception, standing = receive(cluster.reception, stamp, opens=opens, at_ms=told.appended_ms)
    if standing is not Standing.CURRENT:
        view.cluster = replace(cluster, reception=reception)
        return False
    view.cluster = replace(cluster, reception=reception, observed_ms=max(cluster.observed_ms, told.appended_ms))
    if cluster.phase is ClusterPhase.LEFT and not opens:
        return False
    counts = _FOLDS[type(event)](Step(view, event, told.content, place_of(reception, stamp), now_ms))
    view.cluster = _joined(view.cluster)
    return counts


def _joined(cluster: Cluster) -> Cluster:
    """A cluster is ready once a resync has told all of it."""
    if cluster.phase is not ClusterPhase.JOINING or cluster.stale or cluster.reception.finished == NEVER:
        return cluster
    return cluster.after(ClusterStep.TELL_ALL)


def note_parked(view: ClusterFold, stamp: Stamp, appended_ms: int) -> None:
    """A record that was parked still had a sequence: it is no gap (1.3)."""
    reception, _ = receive(view.cluster.reception, stamp, opens=False, at_ms=appended_ms)
    view.cluster = replace(view.cluster, reception=reception)


def lose_history(cluster: Cluster, why: str) -> Cluster:
    """The log no longer holds what the hub has not read: only a resync tells what it was."""
    return replace(cluster, reception=unsound(cluster.reception, why))


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
        revisions = bound.get(entry.placement) if entry.bound else None
        if revisions is not None:
            revisions[entry.revision] = revisions.get(entry.revision, 0) + entry.bound
        elif entry.bound:
            bound[entry.placement] = {entry.revision: entry.bound}
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
        unbound=step.content,
        acts=event.orders is not None,
    )
    if definition_of(after) != definition_of(cluster):
        after = replace(after, definition=cluster.definition + 1)
    step.view.cluster = with_orders(after, event.orders.generation, event.orders.done) if event.orders else after
    return True


def definition_of(cluster: Cluster) -> tuple[object, ...]:
    """What decides whether the cluster may be chosen (2.2)."""
    labels, taints = cluster.labels, cluster.taints
    return (cluster.phase, cluster.cordoned, cluster.kind, labels, taints, cluster.apis, cluster.acts, cluster.awaits)


def _fold_node(step: Step) -> bool:
    view, event = step.view, step.event
    before, name = view.nodes.get(event.node), f"nodes/{event.node}"
    if not step.is_news(before, name):
        return False
    after: Node = replace(step.content, place=step.place)
    view.move_bound(before, after, step.now_ms)
    view.put_node(after)
    view.mark_told(name, step.place)
    return True


def _fold_node_gone(step: Step) -> bool:
    before, name = step.view.nodes.get(step.event.node), f"nodes/{step.event.node}"
    if not step.is_news(before, name):
        return False
    step.view.bury(before or Node(name=step.event.node, gone=True), step.place, step.now_ms)
    step.view.mark_told(name, step.place)
    return True


def _fold_placement(step: Step) -> bool:
    view, event = step.view, step.event
    placement = view.placements.get(event.placement)
    view.mark_told(f"placements/{event.placement}", step.place)
    if placement is None and (view.cluster.awaits or view.cluster.orphans):
        view.cluster = with_orphan(view.cluster, event)
    if placement is None or placement.cluster != view.cluster.name or step.place <= placement.stamp:
        return False
    if event.live or event.version:
        view.note_stray(placement, step.done)
    view.cluster = with_orders(view.cluster, event.generation, event.done)
    observed = heard(view.cluster, placement, replace(event, done=step.done), step.now_ms)
    view.put_placement(replace(observed, stamp=step.place))
    return True


def _fold_action(step: Step) -> bool:
    """What was refused is known sooner; what the placement's own observations said since stands (4.1)."""
    event: ActionFinished = step.event
    placement = step.view.placements.get(event.placement)
    if placement is None or placement.cluster != step.view.cluster.name or step.place <= placement.stamp:
        return False
    if placement.version != event.version or event.outcome == "applied":
        return False
    done = event.order if event.generation == step.view.generation else 0
    refused, reason = max(1, placement.wanted), event.reason or event.outcome
    seen = replace(placement.seen, done=max(placement.seen.done, done), refused=refused, refused_reason=reason)
    step.view.put_placement(replace(placement, seen=seen))
    return True


_READERS: Final[Mapping[type, Callable[[Any], Any]]] = {NodeObserved: _read_node, ClusterObserved: _read_unbound}
_FOLDS: Final[Mapping[type, Callable[[Step], bool]]] = {
    ClusterObserved: _fold_cluster,
    NodeObserved: _fold_node,
    NodeGone: _fold_node_gone,
    PlacementObserved: _fold_placement,
    ActionFinished: _fold_action,
    ResyncStarted: fold_started,
    ResyncFinished: fold_finished,
    ClusterLeft: fold_left,
}

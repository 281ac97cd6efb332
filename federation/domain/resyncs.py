"""The folds that look at all of a cluster: a resync begins and ends, the cluster leaves (protocol 1.4)."""

from collections.abc import Iterable

from msgspec.structs import replace

from federation.domain.adoption import freed, heard, is_adopted, with_inventory
from federation.domain.cluster import ClusterPhase, ClusterStep, Place
from federation.domain.events import PlacementObserved, ResyncFinished
from federation.domain.folding import ClusterFold, Step, with_orders
from federation.domain.placement import Placement, Seen
from federation.domain.reception import resync_finished, resync_started, unsound


def fold_started(step: Step) -> bool:
    """Everything will be told again; a cluster that had left comes back with it."""
    cluster = step.view.cluster
    has_left = cluster.phase is ClusterPhase.LEFT
    if step.place <= cluster.reception.started or (has_left and step.place <= cluster.reception.finished):
        return False
    cluster = cluster.after(ClusterStep.RETURN) if has_left else cluster
    reception = resync_started(cluster.reception, step.event.resync, step.place)
    step.view.cluster = replace(cluster, reception=reception)
    return True


def fold_finished(step: Step) -> bool:
    """What was not told goes, what was listed and not told keeps the cluster stale.

    Where the start has not come in (it is on its way, or lost) nobody knows what was told since: only another resync
    mends that.
    """
    view, event = step.view, step.event
    reception = view.cluster.reception
    if step.place <= max(reception.started, reception.finished):
        return False
    if event.resync != reception.resync:
        lost = unsound(reception, f"the start of resync {event.resync} was not seen before its end")
        view.cluster = replace(view.cluster, reception=lost)
        return False
    _drop_unlisted(step, reception.started)
    missing = tuple(_not_seen(view, event, reception.started))
    cluster = with_orders(view.cluster, event.generation, event.done)
    view.cluster = replace(cluster, reception=resync_finished(cluster.reception, step.place, missing))
    if cluster.awaits or cluster.orphans:
        _take_stock(view, event, reception.resync_tries)
    return True


def _take_stock(view: ClusterFold, event: ResyncFinished, tries: int) -> None:
    """A cluster that awaits its inventory is free once all of it is adopted; until then it is asked for again."""
    cluster = with_inventory(view.cluster, (each for each in event.placements if each not in view.placements))
    counts = event.generation == cluster.awaits or not cluster.acts
    if cluster.awaits and counts and is_adopted(cluster, view.placements.values()):
        cluster = freed(cluster)
    elif cluster.awaits:
        cluster = replace(cluster, reception=replace(cluster.reception, resync_tries=tries))
    view.cluster = cluster


def _drop_unlisted(step: Step, started: Place) -> None:
    """What is not listed and was not told since the start goes: observations, never claims (1.4)."""
    view, event = step.view, step.event
    listed_nodes, listed_placements = set(event.nodes), set(event.placements)
    for node in [node for node in view.nodes.values() if node.place < started and node.name not in listed_nodes]:
        if not node.gone:
            view.bury(node, step.place, step.now_ms)
    for placement in list(view.placements.values()):
        if placement.stamp < started and placement.id not in listed_placements and not placement.released:
            absent = PlacementObserved(
                cluster=event.cluster,
                placement=placement.id,
                generation=event.generation,
                gone=True,
                done=step.done,
            )
            view.put_placement(replace(heard(view.cluster, placement, absent, step.now_ms), stamp=step.place))


def _not_seen(view: ClusterFold, event: ResyncFinished, started: Place) -> Iterable[str]:
    for name in event.nodes:
        node = view.nodes.get(name)
        if node is None or node.gone or node.place < started:
            yield f"nodes/{name}"
    for placement_id in event.placements:
        placement = view.placements.get(placement_id)
        if placement is not None and placement.stamp < started:
            yield f"placements/{placement_id}"


def fold_left(step: Step) -> bool:
    """The cluster has left: its capacity leaves the pool, and what was claimed in it is claimed no more."""
    view = step.view
    reception = view.cluster.reception
    if step.place <= max(reception.started, reception.finished):
        return False
    for node in [node for node in view.nodes.values() if not node.gone]:
        view.bury(node, step.place, step.now_ms)
    for placement in [each for each in view.placements.values() if not each.released]:
        view.put_placement(_void(placement, step.place))
    cluster = view.cluster.after(ClusterStep.LEAVE)
    reception = replace(unsound(cluster.reception, "it has left"), finished=step.place)
    view.cluster = replace(cluster, unbound=(), place=step.place, reception=reception)
    return True


def _void(placement: Placement, place: Place) -> Placement:
    return replace(placement, ended=True, released=True, asks=(), holds={}, bound=0, seen=Seen(), stamp=place)

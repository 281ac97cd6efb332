"""After a restore the world is ahead of the database: what members run is adopted, or put before the operator (section 6).

A cluster *awaits* its inventory in the generation that the restore began. Only what was read after the agent stored
that generation counts, since from then on no older order is carried out. Until all is adopted nothing is decided there.
"""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from federation.domain.cluster import Cluster, Orphan
from federation.domain.events import PlacementObserved
from federation.domain.placement import UNNAMED, Ask, AskKind, Placement
from federation.domain.resources import InvalidAmounts, parse_needed

MAX_ORPHANS: Final = 200
ADOPTED_ORDER: Final = 1
"""What stands in a member when its inventory is read came before any order of the generation but the first, which
asks for that inventory."""


def awaiting(cluster: Cluster, generation: int) -> Cluster:
    """The cluster once its database was restored: its orders begin anew, and nothing is decided until it is known."""
    return replace(
        cluster,
        awaits=generation,
        next_order=1,
        orphans=(),
        more_orphans=0,
        definition=cluster.definition + 1,
        reception=replace(cluster.reception, resync_tries=0, resync_asked_ms=0),
    )


def freed(cluster: Cluster) -> Cluster:
    """The cluster once its inventory is adopted: it may be chosen again."""
    return replace(cluster, awaits=0, definition=cluster.definition + 1)


def adopts(cluster: Cluster, placement: Placement, event: PlacementObserved) -> bool:
    """Whether *event* is what *placement* is adopted by.

    Not so what its controllers have not observed yet or what is terminating: more pods of it may still come or go.
    """
    if not cluster.awaits or event.generation != cluster.awaits or placement.adopted == cluster.awaits:
        return False
    return (event.observed or event.gone) and not placement.released


def heard(cluster: Cluster, placement: Placement, event: PlacementObserved, now_ms: int) -> Placement:
    """The placement once *event* about it was read: adopted by it, or observed as ever."""
    if adopts(cluster, placement, event):
        return adopted(placement, event, now_ms)
    return placement.observing(event, now_ms)


def adopted(placement: Placement, event: PlacementObserved, now_ms: int) -> Placement:
    """The placement as the member has it: the higher version, and a claim on the most that it may still have.

    What was asked before is void. *found* says that this is not what was last decided: it is planned again.
    """
    after = replace(
        placement,
        version=max(placement.version, event.version),
        asks=() if event.gone else (_standing(placement, event),),
        ended=placement.ended and event.gone,
        released=placement.ended and event.gone,
        adopted=event.generation,
        found=not placement.ended and not placement.finished and _differs(placement, event),
        dispatched_ms=now_ms,
        held_since_ms=now_ms,
        seen=placement.observing(event, now_ms).seen,
    )
    if placement.ended and not event.gone:
        after = replace(after, found=True)
    return after.settled(UNNAMED, now_ms)


def _standing(placement: Placement, event: PlacementObserved) -> Ask:
    """What stands on the object, as the one version that is asked for."""
    surges = [ask.surge for ask in placement.asks if ask.revision == event.revision]
    rolled_out = event.updated >= event.desired and event.live <= event.desired
    surge = 0 if rolled_out else max(event.live - event.desired, *surges, 0)
    requests = _requests(event) or placement.request
    return Ask(event.version, event.desired, AskKind.WANTED, ADOPTED_ORDER, surge, event.revision, requests)


def _requests(event: PlacementObserved) -> dict[str, int]:
    """What one replica takes; nothing where it cannot be read: what was decided then says it."""
    try:
        return parse_needed(event.requests)
    except InvalidAmounts:
        return {}


def _differs(placement: Placement, event: PlacementObserved) -> bool:
    if event.gone or not placement.asks:
        return True
    last = placement.asks[-1]
    return (last.version, last.replicas, last.revision) != (event.version, event.desired, event.revision)


# --- what nobody decided ---------------------------------------------------------------------------------------------


def with_orphan(cluster: Cluster, event: PlacementObserved) -> Cluster:
    """The cluster with what *event* tells of a placement that the database does not know."""
    others = tuple(orphan for orphan in cluster.orphans if orphan.placement != event.placement)
    is_known = len(others) < len(cluster.orphans)
    present = bool(event.version or event.live or event.bound) and not event.gone
    if not present:
        return replace(cluster, orphans=others) if is_known else cluster
    if not is_known and (not cluster.awaits or len(others) >= MAX_ORPHANS):
        return cluster
    orphan = Orphan(
        placement=event.placement,
        workload=event.workload,
        team=event.team,
        namespace=event.namespace,
        name=event.name,
        replicas=max(event.desired, event.live),
        settled=event.observed and (event.generation == cluster.awaits or not cluster.acts),
    )
    known = next((each for each in cluster.orphans if each.placement == event.placement), None)
    if known is not None and known.settled:
        orphan = replace(orphan, settled=True)
    return replace(cluster, orphans=(*others, orphan))


def with_inventory(cluster: Cluster, unknown: Iterable[str]) -> Cluster:
    """The cluster once all its placements are listed; *unknown* are those that the database does not know."""
    listed = set(unknown)
    orphans = tuple(orphan for orphan in cluster.orphans if orphan.placement in listed)
    more = len(listed) - len(orphans) if cluster.awaits else min(cluster.more_orphans, len(listed) - len(orphans))
    return replace(cluster, orphans=orphans, more_orphans=more)


def is_adopted(cluster: Cluster, placements: Iterable[Placement]) -> bool:
    """Whether the inventory is complete: every living placement adopted, every other before the operator.

    More orphans than the list holds are told by number; the list is full then.
    """
    if cluster.stale or (cluster.more_orphans and len(cluster.orphans) < MAX_ORPHANS):
        return False
    if not all(orphan.settled for orphan in cluster.orphans):
        return False
    return all(placement.adopted == cluster.awaits for placement in placements if not placement.released)

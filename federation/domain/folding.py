"""What folds of events work on: one cluster's rows while a batch is folded, and the means to change them soundly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from federation.domain.cluster import Cluster, Node, Place
from federation.domain.events import Stamp
from federation.domain.placement import Placement
from federation.domain.reception import told

Bound = Mapping[str, Mapping[str, int]]


@dataclass(slots=True)
class ClusterFold:
    """One cluster while a batch is folded: rows loaded under its lock, replaced here, then written in bulk.

    *nodes* and *placements* hold what the batch names (all of the cluster's where `needs_everything` said so);
    *changed_nodes* and *changed_placements* what must be written. *strays* are placements that have ended and of
    which something was seen again. *generation* is the hub's: orders done of another are none of its own.
    """

    cluster: Cluster
    nodes: dict[str, Node] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    changed_nodes: set[str] = field(default_factory=set)
    changed_placements: set[str] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)
    generation: int = 1

    def put_node(self, node: Node) -> None:
        """Replace a node's row and keep the cluster's sums."""
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
        self.cluster = with_holds(self.cluster, before, placement)

    def bury(self, node: Node, place: Place, now_ms: int) -> None:
        """Leave a tombstone, so that whoever reads what changed sees that the node went."""
        tombstone = Node(name=node.name, gone=True, usable=False, place=place)
        self.move_bound(node, tombstone, now_ms)
        self.put_node(tombstone)

    def move_bound(self, before: Node | None, after: Node, now_ms: int) -> None:
        """One event moves a replica from held to bound, or back (3.2, 3.4)."""
        for placement_id in moved_between(before.bound if before else {}, after.bound):
            placement = self.placements.get(placement_id)
            if placement is None or placement.cluster != self.cluster.name:
                continue
            if placement_id in after.bound:
                self.note_stray(placement, self.cluster.done if self.cluster.generation == self.generation else 0)
            delta = after.bound_of(placement_id) - (before.bound_of(placement_id) if before else 0)
            self.put_placement(placement.with_bound(after.name, delta, now_ms))

    def note_stray(self, placement: Placement, done: int) -> None:
        """Something was seen of *placement*: if it has ended, and no answer to that is on its way, it needs one (4.3)."""
        if placement.released and (not placement.asks or 0 < placement.asks[-1].order <= done):
            self.strays.add(placement.id)

    def mark_told(self, name: str, place: Place) -> None:
        """The object *name* was told at *place*: of the resync that runs or was last, if not before it."""
        if place > self.cluster.reception.started:
            reception = told(self.cluster.reception, name)
            if reception is not self.cluster.reception:
                self.cluster = replace(self.cluster, reception=reception)

    def _sum(self, before: Node | None, after: Node) -> None:
        came = int(not after.gone) - int(before is not None and not before.gone)
        if came:
            self.cluster = replace(self.cluster, nodes=self.cluster.nodes + came)
        old_known, old_used = counted(before)
        new_known, new_used = counted(after)
        if old_known == new_known and old_used == new_used:
            return
        self.cluster = replace(
            self.cluster,
            known=with_change(self.cluster.known, old_known, new_known),
            used=with_change(self.cluster.used, old_used, new_used),
        )


class Told(Struct, frozen=True, gc=False):
    """An event as it came in; *content* is what its reader made of it, its quantities read."""

    event: Any
    content: Any
    stamp: Stamp
    appended_ms: int


class Step(Struct, frozen=True, gc=False):
    """One event on its way into *view* at its *place*; *content* as in `Told`."""

    view: ClusterFold
    event: Any
    content: Any
    place: Place
    now_ms: int

    @property
    def done(self) -> int:
        """The last order of this hub that was carried out when the event was read."""
        return self.event.done if self.event.generation == self.view.generation else 0

    def is_news(self, node: Node | None, name: str) -> bool:
        """Whether the event is newer than what is known of a node: its row, or what the last resync listed (1.2, 1.4)."""
        if node is not None and (self.place <= node.place or not node.gone):
            return self.place > node.place
        reception = self.view.cluster.reception
        return name in reception.missing or self.place > reception.finished


def moved_between(before: Bound, after: Bound) -> list[str]:
    """Placements of which a node bears other pods than before."""
    if before.keys() != after.keys():
        return [each for each in {**before, **after} if before.get(each) != after.get(each)]
    return [each for each, pods in after.items() if before[each] != pods]


def counted(node: Node | None) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What a node adds to its cluster's known and used sums: nothing unless pods can be put on it."""
    if node is None or node.gone or not node.usable:
        return {}, {}
    return node.allocatable, node.requested


def with_change(total: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """*total* less *before* plus *after*, without zeros."""
    changed = dict(total)
    if before == after:
        return changed
    for name, amount in before.items():
        changed[name] = changed.get(name, 0) - amount
    for name, amount in after.items():
        changed[name] = changed.get(name, 0) + amount
    return {name: amount for name, amount in changed.items() if amount}


def with_holds(cluster: Cluster, before: Placement | None, after: Placement) -> Cluster:
    """*cluster* once one of its placements holds what *after* does, and no longer what it did before."""
    held = with_change(cluster.held, before.held_amounts() if before else {}, after.held_amounts())
    replicas = cluster.held_replicas + after.held - (before.held if before else 0)
    return replace(cluster, held=held, held_replicas=replicas)


def with_orders(cluster: Cluster, generation: int, done: int) -> Cluster:
    """How far orders are done never goes back within a generation (invariant 4)."""
    if (generation, done) <= (cluster.generation, cluster.done):
        return cluster
    return replace(cluster, generation=generation, done=done)

"""An agent's events, numbered as it numbers them, and the view that they are folded into."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from federation.domain.cluster import Cluster
from federation.domain.events import (
    BoundPlacement,
    ClusterObserved,
    Event,
    NodeGone,
    NodeObserved,
    Orders,
    PlacementObserved,
    ResyncFinished,
    ResyncStarted,
    Stamp,
)
from federation.domain.folding import ClusterFold, counted, with_change
from federation.domain.placement import Ask, AskKind, Placement
from federation.domain.projection import fold, read_event

NOW = 1_700_000_000_000
CPU = {"cpu": 1000}


@dataclass
class Teller:
    """An agent of one epoch: it numbers what it tells, from 1 on."""

    uid: str = "lease-a"
    epoch: int = 1
    sequence: int = 0

    def tell(self, event: Event) -> tuple[Event, Stamp]:
        self.sequence += 1
        return event, Stamp(self.uid, self.epoch, self.sequence)

    def all(self, *events: Event) -> list[tuple[Event, Stamp]]:
        return [self.tell(event) for event in events]

    def resync(self, *events: Event, name: str = "r", done: int = 0, generation: int = 1) -> list[tuple[Event, Stamp]]:
        """A whole resync that tells *events* and lists what they name."""
        nodes = tuple(event.node for event in events if isinstance(event, NodeObserved))
        placements = tuple(event.placement for event in events if isinstance(event, PlacementObserved))
        name = f"{name}-{self.uid}-{self.epoch}-{self.sequence}"
        finished = ResyncFinished(
            cluster="east", resync=name, generation=generation, done=done, nodes=nodes, placements=placements
        )
        return self.all(ResyncStarted(cluster="east", resync=name), *events, finished)


@dataclass
class World:
    """A view of the cluster east, with all of its placements loaded."""

    view: ClusterFold = field(default_factory=lambda: ClusterFold(Cluster(name="east")))

    @classmethod
    def holding(cls, *placements: Placement) -> "World":
        """The view once these placements were committed."""
        world = cls()
        world.commit(*placements)
        return world

    def commit(self, *placements: Placement) -> None:
        for placement in placements:
            before = self.view.placements.get(placement.id, Placement(id=placement.id, **_NOTHING))
            self.view.placements[placement.id] = before
            self.view.put_placement(placement)

    def hear(self, told: Iterable[tuple[Event, Stamp]], at_ms: int = NOW) -> list[bool]:
        """Fold what was told, in the order given; which of it counted."""
        return [fold(self.view, read_event(event, stamp, at_ms), at_ms) for event, stamp in told]

    def placement(self, name: str = "p") -> Placement:
        return self.view.placements[name]

    @property
    def cluster(self) -> Cluster:
        return self.view.cluster


_NOTHING: dict[str, Any] = {"workload": "w", "team": "default", "cluster": "east"}


def node(name: str = "n-0", cores: int = 8, used: int = 0, **fields: Any) -> NodeObserved:
    """A node of *cores*; `bound=` is replicas by placement, `ready=`, `unschedulable=` say whether it takes pods."""
    bound = fields.pop("bound", {})
    ready = fields.pop("ready", True)
    return NodeObserved(
        cluster="east",
        node=name,
        allocatable={"cpu": str(cores)},
        requested={"cpu": str(used)},
        conditions={"Ready": "True" if ready else "False"},
        placements=tuple(BoundPlacement(placement=key, bound=count) for key, count in bound.items()),
        **fields,
    )


def gone(name: str = "n-0") -> NodeGone:
    return NodeGone(cluster="east", node=name)


def heartbeat(done: int | None = None, generation: int = 1, **fields: Any) -> ClusterObserved:
    orders = None if done is None else Orders(generation=generation, done=done)
    return ClusterObserved(cluster="east", orders=orders, **fields)


def seen(name: str = "p", **fields: Any) -> PlacementObserved:
    """What a member tells of a placement; of the hub's own generation."""
    return PlacementObserved(cluster="east", placement=name, **{"generation": 1, **fields})


def ask(version: int, replicas: int, order: int = 0, **fields: Any) -> Ask:
    """A version that asks for so many pods of one core."""
    kind = fields.pop("kind", AskKind.WANTED)
    return Ask(version, replicas, kind, order, fields.pop("surge", 0), fields.pop("revision", "1"), {**CPU, **fields})


def gone_ask(version: int, order: int = 0) -> Ask:
    return Ask(version, 0, AskKind.GONE, order)


def placed(replicas: int = 3, *, name: str = "p", order: int = 1, **fields: Any) -> Placement:
    """A placement whose first version asks for *replicas* of one core each, none of them seen yet."""
    blank = Placement(id=name, **{**_NOTHING, **fields})
    asking = blank.asking(ask(1, replicas))
    return asking.holding({}, NOW, 0).numbered(1, order, NOW) if order else asking.holding({}, NOW, 0)


def recounted(view: ClusterFold) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Known, used and held, counted from the rows."""
    known: dict[str, int] = {}
    used: dict[str, int] = {}
    held: dict[str, int] = {}
    for row in view.nodes.values():
        offered, requested = counted(row)
        known, used = with_change(known, {}, offered), with_change(used, {}, requested)
    for placement in view.placements.values():
        held = with_change(held, {}, placement.held_amounts())
    return known, used, held

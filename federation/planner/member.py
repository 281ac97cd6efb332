"""One cluster in the image of the pool: its row, its block of nodes, and what is held on them."""

from dataclasses import dataclass, field

from federation.domain.cluster import Cluster, ClusterPhase
from federation.planner.journal import Slots
from federation.planner.nodes import Int64

Bound = tuple[str | int, ...]
"""Placement and replicas in turn; flat, since there is one for every node."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one pod takes: *amounts* in *rows* of the columns, its own pod slot included."""

    rows: Slots
    amounts: Int64

    def starts(self, width: int) -> Slots:
        """Where its rows begin, one after the other, each *width* long."""
        starts: Slots = self.rows[:, None] * width
        return starts

    @property
    def column(self) -> Int64:
        """The amounts below one another, to go with a row of nodes."""
        return self.amounts[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one placement keeps free: *held* replicas, those in *holds* on named nodes; *growth* for each bound pod."""

    placement: str
    request: Request
    holds: dict[str, int]
    held: int
    growth: Request | None = None


@dataclass(slots=True, kw_only=True)
class Member:
    """*names*, *usable* and *bound* go by offset from *start*.

    *loose*: held replicas by placement that stand on no usable node. *grown*: replicas by placement and node whose
    growth is kept free. *laid*: what was put on nodes that nobody named. *renewed*: nodes came, went or changed in use.
    """

    id: int
    cluster: Cluster
    silent: bool = False
    start: int = 0
    capacity: int = 0
    names: list[str] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    usable: list[bool] = field(default_factory=list)
    bound: list[Bound] = field(default_factory=list)
    holdings: dict[str, Holding] = field(default_factory=dict)
    loose: dict[str, int] = field(default_factory=dict)
    grown: dict[str, dict[str, int]] = field(default_factory=dict)
    laid: list[tuple[Slots, Request, Int64]] = field(default_factory=list)
    disordered: bool = False
    renewed: bool = False

    @property
    def name(self) -> str:
        return self.cluster.name

    @property
    def has_left(self) -> bool:
        """Whether no more than its row remains."""
        return self.cluster.phase is ClusterPhase.LEFT

    @property
    def end(self) -> int:
        return self.start + len(self.names)

    def slot(self, node: str) -> int | None:
        """The slot of a node that is usable."""
        offset = self.offsets.get(node)
        return None if offset is None or not self.usable[offset] else self.start + offset

    def bound_on(self, placement: str) -> dict[str, int]:
        """Replicas of *placement* by usable node."""
        found = zip(self.names, self.usable, self.bound, strict=True)
        return {name: count_of(bound, placement) for name, usable, bound in found if usable and placement in bound}


def count_of(bound: Bound, placement: str) -> int:
    """Replicas of *placement* in *bound*."""
    for at in range(0, len(bound), 2):
        if bound[at] == placement:
            return int(bound[at + 1])
    return 0

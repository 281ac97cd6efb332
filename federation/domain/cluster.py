"""A member cluster and its nodes as the hub knows them, and how an agent's numbered events are kept in order."""

from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from federation.domain.errors import IllegalTransition
from federation.domain.events import Taint
from federation.domain.resources import Amounts

REGION: Final = "topology.kubernetes.io/region"
ZONE: Final = "topology.kubernetes.io/zone"
PROVIDER: Final = "federation.io/provider"
PODS: Final = "pods"
SPREAD_LABELS: Final = {"region": REGION, "zone": ZONE, "provider": PROVIDER}

Place = tuple[int, int, int]
"""(term, epoch, sequence): a Stamp whose Lease uid is replaced by the number of uids seen up to it. Orders as tuples do."""
NEVER: Final[Place] = (0, 0, 0)


class ClusterPhase(StrEnum):
    """Where a cluster stands; silence and staleness are derived, not stored."""

    JOINING = "joining"
    READY = "ready"
    LEFT = "left"


class ClusterStep(StrEnum):
    """What can happen to a cluster."""

    TELL_ALL = "tell all"
    LEAVE = "leave"
    RETURN = "return"


TRANSITIONS: Final[dict[tuple[ClusterPhase, ClusterStep], ClusterPhase]] = {
    (ClusterPhase.JOINING, ClusterStep.TELL_ALL): ClusterPhase.READY,
    (ClusterPhase.JOINING, ClusterStep.LEAVE): ClusterPhase.LEFT,
    (ClusterPhase.READY, ClusterStep.LEAVE): ClusterPhase.LEFT,
    (ClusterPhase.LEFT, ClusterStep.RETURN): ClusterPhase.JOINING,
}


class Reception(Struct, frozen=True, kw_only=True, gc=False):
    """How far an agent's numbered events have come in (protocol section 1).

    *next* is the lowest sequence of the epoch not seen; *beyond* those seen above it; *gap_since_ms* when it opened.
    *started* and *finished* bracket the last resync, *resync* is its id while it runs, *missing* the objects that it
    listed and that were not seen. *unsound* says what trouble only a resync begun after it mends; *mending* that such
    a resync runs.
    """

    uids: tuple[str, ...] = ()
    term: int = 0
    epoch: int = 0
    next: int = 1
    beyond: tuple[int, ...] = ()
    gap_since_ms: int = 0
    resync: str = ""
    started: Place = NEVER
    finished: Place = NEVER
    missing: tuple[str, ...] = ()
    unsound: str = "no resync has been seen"
    mending: bool = False
    resync_asked_ms: int = 0
    resync_tries: int = 0


class Unbound(Struct, frozen=True, array_like=True, gc=False):
    """Pods of others that wait for a node: one shape. Those called unschedulable are not in *count*."""

    requests: dict[str, int]
    count: int


class Orphan(Struct, frozen=True, kw_only=True, gc=False):
    """A placement that a member runs and that a restored database does not know; *settled* once it may be judged."""

    placement: str
    workload: str = ""
    team: str = ""
    namespace: str = ""
    name: str = ""
    replicas: int = 0
    settled: bool = False


class Cluster(Struct, frozen=True, kw_only=True, gc=False):
    """One cluster on record.

    *revision* moves with every commit that touches the cluster, *decisions* with every commit that raises claims in
    it, *definition* with what decides whether it may be chosen (labels, taints, APIs, cordon). *known*, *used* and
    *held* are sums over usable nodes and over placements, in base units; *held_replicas* take a pod slot each. *awaits* is the generation in which the
    inventory has not been adopted yet (0: none); *orphans* what it showed that nobody decided, *more_orphans* how many
    are not in that list.
    """

    name: str
    phase: ClusterPhase = ClusterPhase.JOINING
    revision: int = 0
    decisions: int = 0
    definition: int = 0
    cordoned: bool = False
    kind: str = "ordinary"
    version: str = ""
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    apis: tuple[str, ...] = ()
    unbound: tuple[Unbound, ...] = ()
    acts: bool = False
    generation: int = 0
    done: int = 0
    next_order: int = 1
    reception: Reception = Reception()
    source: str = ""
    observed_ms: int = 0
    place: Place = NEVER
    nodes: int = 0
    known: dict[str, int] = {}
    used: dict[str, int] = {}
    held: dict[str, int] = {}
    held_replicas: int = 0
    awaits: int = 0
    orphans: tuple[Orphan, ...] = ()
    more_orphans: int = 0

    def after(self, step: ClusterStep) -> "Cluster":
        """The cluster once *step* has happened to it; whether it may be chosen changes with it."""
        try:
            phase = TRANSITIONS[self.phase, step]
        except KeyError:
            raise IllegalTransition(f"cluster {self.name}: {step} while {self.phase}") from None
        return replace(self, phase=phase, definition=self.definition + 1)

    @property
    def stale(self) -> str:
        """Why the view of this cluster cannot be trusted to be whole; empty when it can."""
        if self.reception.unsound:
            return self.reception.unsound
        if self.reception.missing:
            return f"{len(self.reception.missing)} listed objects were not seen"
        return ""

    @property
    def unadopted(self) -> str:
        """Why nothing may be decided here after a restore; empty when it may (section 6)."""
        return "restored: its inventory has not been adopted yet" if self.awaits else ""

    def silent(self, caught_up_ms: int, after_seconds: float) -> bool:
        """Whether nothing was heard for *after_seconds*, as of the last time the consumer stood at the end of the log."""
        return caught_up_ms - self.observed_ms > after_seconds * 1000

    def excess(self) -> dict[str, int]:
        """By how much observed + held passes what is known, in each resource where it does (2.3)."""
        held = {**self.held, PODS: max(self.held_replicas, self.held.get(PODS, 0))}
        over = {
            name: self.used.get(name, 0) + held.get(name, 0) - self.known.get(name, 0) for name in {*self.used, *held}
        }
        if PODS not in self.known:  # who observes without pod slots has no bound on them
            over.pop(PODS)
        return {name: amount for name, amount in over.items() if amount > 0}

    def group(self, by: str) -> str | None:
        """The group of this cluster for a spread field; None where it has none."""
        if by == "cluster":
            return self.name
        return self.labels.get(SPREAD_LABELS.get(by, by))


class Node(Struct, frozen=True, kw_only=True, gc=False):
    """One node on record. *usable* nodes count: Ready and not cordoned. *gone* rows are tombstones."""

    name: str
    gone: bool = False
    usable: bool = True
    allocatable: dict[str, int] = {}
    requested: dict[str, int] = {}
    used: dict[str, int] | None = None
    devices: dict[str, tuple[int, ...]] | None = None
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    bound: dict[str, dict[str, int]] = {}
    place: Place = NEVER

    def bound_of(self, placement: str) -> int:
        """Replicas of *placement* bound here, of any revision."""
        return sum(self.bound.get(placement, {}).values())

    def free(self) -> Amounts:
        """Allocatable less requested; negative in debt."""
        names = {*self.allocatable, *self.requested}
        return {name: self.allocatable.get(name, 0) - self.requested.get(name, 0) for name in names}

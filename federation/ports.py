"""What the services need of the world, as Protocols. Each has a twin in `adapters.memory` and one contract suite."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from federation.domain.cloudevents import encode_headers
from federation.domain.cluster import Cluster, Node
from federation.domain.events import Envelope
from federation.domain.member import Change, MemberObject, MemberPod, ObjectKey
from federation.domain.placement import Placement
from federation.domain.records import (
    Audit,
    Committed,
    Cycle,
    Decision,
    Explanation,
    Idempotent,
    Orders,
    OutboxRow,
    Parked,
    Partition,
)
from federation.domain.workload import Workload

T = TypeVar("T")


class Clock(Protocol):
    """Time. All times in the core are milliseconds since 1970, UTC."""

    def now_ms(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Identifiers that sort by the time they were made (ULIDs)."""

    def new(self) -> str: ...


class Compute(Protocol):
    """CPU work beside the event loop."""

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T: ...


# --- the event log ---------------------------------------------------------------------------------------------------


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """One record of the log. *source* is `topic/partition`; *appended_ms* is stamped by the log, not by the producer."""

    source: str
    offset: int
    appended_ms: int
    key: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """What a producer hands over. *topic* is a name such as `federation.actions.east`."""

    topic: str
    key: str
    envelope: Envelope
    value: bytes

    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """The headers on the wire."""
        return encode_headers(self.envelope)


class RawMessage(Struct, frozen=True, kw_only=True):
    """A record that goes as it came: a parked event need not be a CloudEvent at all."""

    topic: str
    key: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


class Batch(Struct, frozen=True, kw_only=True):
    """Records of one poll, in offset order for each source.

    *ends* names the sources of this consumer whose end is reached with these records (for silence, 1.5); *reset*
    those whose stored position the log no longer holds, with the position from which it can go on (1, gap).
    """

    records: Sequence[Record] = ()
    ends: frozenset[str] = frozenset()
    reset: Mapping[str, int] = {}


class Consumer(Protocol):
    """Reads topics from the positions that its owner keeps: *positions* is asked whenever a source is assigned."""

    async def poll(self, limit: int, wait_seconds: float) -> Batch: ...

    async def hint(self, positions: Mapping[str, int]) -> None:
        """Tell lag monitors the positions that were committed; never relied upon."""

    async def rewind(self, source: str) -> None:
        """Forget what was handed out of *source* and read again from its stored position."""

    async def lag(self) -> Mapping[str, int]:
        """Records not yet handed out, for each assigned source."""

    async def close(self) -> None: ...


PositionReader = Callable[[Sequence[str]], Any]
"""async (sources) -> Mapping[source, next offset to read]; absent sources start at their beginning."""


class EventLog(Protocol):
    """Kafka, or its twin."""

    async def append(self, messages: Sequence[Message | RawMessage]) -> None:
        """Durably append, in order for each key; returns when all are acknowledged, raises Unavailable otherwise."""

    async def consume(self, group: str, topics: Sequence[str], positions: PositionReader) -> Consumer:
        """A member of *group* over *topics*; a topic may end in `*`, a pattern whose new topics are found soon."""

    async def close(self) -> None: ...


# --- the store -------------------------------------------------------------------------------------------------------


class Transaction(Protocol):
    """One unit of work. Row locks are taken in name order by the `lock_*` verbs; the rest only reads or writes rows."""

    def reader(self) -> "Reader":
        """Reads inside this transaction, under its locks."""

    # ingest
    async def partition(self, source: str) -> Partition: ...

    async def move_position(self, source: str, expected: int, to: int) -> None:
        """Compare-and-set of a position; raises StaleOffset when it is not *expected* (-1: no row yet)."""

    async def set_caught_up(self, sources: Sequence[str], at_ms: int) -> None: ...

    async def add_clusters(self, names: Sequence[str]) -> None:
        """Rows for clusters not heard of before; those that are there stay as they are."""

    async def clusters_of(self, source: str) -> list[str]:
        """Names of the clusters whose events come from *source*."""

    async def lock_clusters(self, names: Sequence[str]) -> dict[str, Cluster]: ...

    async def nodes(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Node]: ...

    async def node_places(self, cluster: str) -> dict[str, Node]:
        """All nodes of a cluster, tombstones included."""

    async def placements(self, ids: Sequence[str]) -> dict[str, Placement]: ...

    async def placements_in(self, cluster: str, *, living: bool = True) -> list[Placement]: ...

    async def save_clusters(self, clusters: Sequence[Cluster]) -> None: ...

    async def save_nodes(self, source: str, position: int, rows: Sequence[tuple[str, Node]]) -> None: ...

    async def save_placements(self, placements: Sequence[tuple[Placement, int]]) -> None:
        """Each with the revision of its cluster at this commit."""

    async def park(self, parked: Sequence[Parked]) -> None: ...

    async def parked_untold(self, limit: int) -> list[Parked]:
        """Parked events that have not been published on the topic of parked events."""

    async def mark_told(self, parked: Sequence[Parked], at_ms: int) -> None: ...

    # deciding
    async def lock_workloads(self, ids: Sequence[str]) -> dict[str, Workload]: ...

    async def placements_of(self, workloads: Sequence[str]) -> dict[str, list[Placement]]: ...

    async def save_workloads(self, workloads: Sequence[Workload]) -> None: ...

    async def remove_workloads(self, ids: Sequence[str]) -> None: ...

    async def record_cycle(
        self, cycle: Cycle, decisions: Sequence[Decision], explanations: Sequence[Explanation]
    ) -> None: ...

    async def enqueue(self, rows: Sequence[OutboxRow]) -> None: ...

    async def cancel_waiting(self, placement: str) -> int:
        """Drop the outbox rows of a placement that have no number yet; returns how many went."""

    # dispatch
    async def waiting_rows(self, limit: int) -> list[OutboxRow]:
        """Rows without a number whose precondition is met, oldest first."""

    async def number_rows(self, rows: Sequence[OutboxRow]) -> None: ...

    async def rows_to_send(self, limit: int) -> list[OutboxRow]:
        """Numbered rows not marked sent, by cluster and number."""

    async def rows_after(self, cluster: str, done: int, limit: int) -> list[OutboxRow]:
        """Numbered rows above *done*: what an agent has not confirmed."""

    async def mark_sent(self, ids: Sequence[int], at_ms: int) -> None: ...

    async def forget_rows(self, cluster: str, done: int) -> None:
        """Confirmed rows go."""

    async def drop_orders(self, generation: int) -> int:
        """Rows of older generations go, those without a number included; returns how many went."""

    # callers
    async def add_workload(self, workload: Workload) -> None:
        """Raises Conflict when a workload of that team and name lives."""

    async def idempotent(self, team: str, key: str) -> Idempotent | None: ...

    async def remember(self, idempotent: Idempotent) -> None: ...

    async def audit(self, entry: Audit) -> None: ...

    async def generation(self) -> int: ...

    async def set_generation(self, generation: int) -> None: ...

    # upkeep
    async def expired(self, now_ms: int, limit: int) -> list[str]:
        """Ids of workloads whose lease ran out."""

    async def prune(self, before_ms: int, limit: int) -> int:
        """Delete explanations, decisions, cycles, parked events, answers and released placements older than that."""

    # leases of the hub's own loops
    async def take_lease(self, name: str, holder: str, now_ms: int, seconds: float) -> bool: ...

    async def drop_lease(self, name: str, holder: str) -> None: ...


class Reader(Protocol):
    """Reads for images, pages and people; takes no locks."""

    async def partitions(self) -> dict[str, Partition]: ...

    async def positions(self, sources: Sequence[str]) -> dict[str, int]: ...

    async def clusters(self) -> list[Cluster]: ...

    async def cluster_revisions(self) -> dict[str, int]: ...

    async def clusters_named(self, names: Sequence[str]) -> list[Cluster]: ...

    async def cluster(self, name: str) -> Cluster | None: ...

    def nodes_changed(self, after: Mapping[str, int]) -> AsyncIterator[list[tuple[str, Node]]]:
        """(cluster, node) rows of every source at or above the next offset given (absent: all), in chunks."""

    async def nodes_in(self, cluster: str, after: str, limit: int) -> list[Node]: ...

    async def placements_changed(self, after: Mapping[str, int]) -> list[tuple[Placement, int]]:
        """Living and released placements of clusters whose revision is above the one given (absent: living ones)."""

    async def placements_of(self, workloads: Sequence[str]) -> dict[str, list[Placement]]: ...

    async def queue(self, limit: int) -> list[Workload]:
        """Workloads whose version is above the decided one, deleting ones included, by priority then age."""

    async def workloads_by_id(self, ids: Sequence[str]) -> list[Workload]: ...

    async def workload(self, key: str, team: str | None) -> Workload | None:
        """By id, or by name in *team*; None team sees all."""

    async def workloads(self, query: "WorkloadQuery") -> list[Workload]: ...

    async def workloads_waiting(self, after: str, limit: int) -> list[Workload]:
        """Those that wait or are short and are not in the queue, with ids behind *after*, by id."""

    async def workloads_left_over(self, after: str, limit: int) -> list[str]:
        """Ids, behind *after*, of workloads without living placements that are being deleted or count as placed."""

    async def decision(self, decision_id: str) -> tuple[Decision, Explanation] | None: ...

    async def decisions_of(self, workload: str, limit: int) -> list[Decision]: ...

    async def decisions_latest(self, limit: int) -> list[str]:
        """Ids of the newest decisions."""

    async def decisions_known(self, ids: Sequence[str]) -> set[str]:
        """Those of *ids* that are on record."""

    async def parked(self, limit: int) -> list[Parked]: ...

    async def counts(self) -> dict[str, int]:
        """Rows by kind: workloads by phase, placements, held replicas, outbox rows, parked events."""


class WorkloadQuery(Struct, frozen=True, kw_only=True):
    """A page of workloads: *after* is the id of the last one seen."""

    team: str | None = None
    name: str | None = None
    phase: str | None = None
    after: str = ""
    limit: int = 100


class Store(Protocol):
    """SQL, or its twin."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    def reader(self) -> AbstractAsyncContextManager[Reader]: ...

    async def changed(self, channel: str, wait_seconds: float, who: str = "") -> bool:
        """Wait for a commit that concerns *channel* (`queue`, `outbox`, `view`); False on time-out.

        What was committed since *who* (by default the calling task) last waited counts at once.
        """

    def committed(self) -> Committed:
        """What was last committed here, for gauges."""

    async def close(self) -> None: ...


# --- a member cluster ------------------------------------------------------------------------------------------------


class ClusterGateway(Protocol):
    """One member cluster, as its agent sees it: a real API server or a simulated one.

    Writes are preconditioned (protocol 4.3) and raise `Conflict` when the object changed or exists, `Invalid` when
    the API server refuses the content (4xx), `Unavailable` when it does not answer in time.
    """

    def changes(self) -> AsyncIterator[Sequence[Change]]:
        """Everything first, closed by a `Listed` change, then what changes, as it comes; lists again by itself.

        Each listing begins with a `Relisted` change, after which what is not told again is no more.
        """

    async def cluster_facts(self) -> "ClusterFacts": ...

    async def read(self, key: ObjectKey) -> MemberObject | None:
        """The object as the server has it now."""

    async def apply(self, manifest: Mapping[str, Any], uid: str, resource_version: str) -> MemberObject:
        """Server-side apply. With a *uid* only onto that object at that version; without, only if there is none."""

    async def delete(self, key: ObjectKey, uid: str) -> None:
        """Foreground deletion; an absent object is no error."""

    async def evict(self, pod: MemberPod, grace_seconds: int) -> bool:
        """Whether the eviction was accepted; False when a disruption budget forbids it now."""

    async def delete_pod(self, pod: MemberPod) -> None: ...

    async def list_placement(self, placement: str) -> "PlacementListing":
        """Object, ReplicaSets and pods of one placement, listed from storage, not from a cache."""

    async def ensure_namespace(self, namespace: str, team: str) -> None: ...

    async def load_orders(self) -> Orders: ...

    async def store_orders(self, orders: Orders) -> None: ...

    async def hold_lease(self, holder: str, seconds: float) -> "LeaseState | None":
        """Acquire or renew the agent's Lease; None while another holds it."""

    async def drop_lease(self, holder: str) -> None: ...

    async def close(self) -> None: ...


class LeaseState(Struct, frozen=True):
    """The agent's Lease as held: its uid and transitions are the epoch of the agent's events."""

    uid: str
    transitions: int


class ClusterFacts(Struct, frozen=True, kw_only=True):
    """What the heartbeat tells of the cluster itself."""

    kubernetes_version: str = ""
    apis: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class PlacementListing(Struct, frozen=True, kw_only=True):
    """What storage holds of one placement at one moment."""

    objects: tuple[MemberObject, ...] = ()
    pods: tuple[MemberPod, ...] = ()
    replica_sets: int = 0

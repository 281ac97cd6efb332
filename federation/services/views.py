"""What people and programs read: workloads, clusters, the pool and explanations, in the words of the REST API."""

from datetime import datetime

from msgspec import Struct

from federation.domain.events import Taint


class View(Struct, frozen=True, rename="camel", kw_only=True):
    """Base of what is read."""


class PlacementView(View, frozen=True, kw_only=True):
    """*podLabels* are those that the pods must carry where the caller deploys them."""

    id: str
    workload: str
    cluster: str
    component: str
    version: int
    replicas: int
    held: int
    bound: int
    ready: int
    phase: str
    pod_labels: dict[str, str] = {}


class WorkloadView(View, frozen=True, kw_only=True):
    """A workload with where it stands."""

    id: str
    name: str
    team: str
    phase: str
    version: int
    decided: int
    replicas: int
    priority: int
    kind: str
    decision: str
    placements: tuple[PlacementView, ...]
    reasons: tuple[str, ...]
    created_at: datetime
    changed_at: datetime
    lease_until: datetime | None


class AmountsView(View, frozen=True, kw_only=True):
    """One resource, in quantities: known to be there, used as observed, held for what is decided, and free."""

    known: str
    used: str
    held: str
    free: str


class OrdersView(View, frozen=True, kw_only=True):
    """How far the cluster's agent has carried out its orders."""

    generation: int
    done: int


class OrphanView(View, frozen=True, kw_only=True):
    """What a member runs and the hub, restored from a backup, did not decide: the operator's to judge."""

    placement: str
    workload: str
    team: str
    namespace: str
    name: str
    replicas: int


class ClusterView(View, frozen=True, kw_only=True):
    """A cluster as known. *debt* is by how much observed and held pass what is known.

    *orphans* are what it runs without a decision on record, *moreOrphans* how many are not in that list.
    """

    name: str
    phase: str
    kind: str
    kubernetes_version: str
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    cordoned: bool
    silent: bool
    stale: str | None
    age_seconds: float | None
    nodes: int
    resources: dict[str, AmountsView]
    placements: int
    held: int
    unbound: int
    orders: OrdersView | None
    debt: dict[str, str]
    orphans: tuple[OrphanView, ...] = ()
    more_orphans: int = 0


class ClusterNews(View, frozen=True, kw_only=True):
    """What the live stream tells of a cluster that changed."""

    name: str
    phase: str
    revision: int
    cordoned: bool
    silent: bool
    stale: str | None
    nodes: int
    resources: dict[str, AmountsView]
    debt: dict[str, str]


class ClusterBrief(View, frozen=True, kw_only=True):
    """A line of the pool's list. *usable*: its free capacity counts."""

    name: str
    phase: str
    usable: bool
    cordoned: bool
    silent: bool
    stale: str | None
    age_seconds: float | None
    nodes: int


class PoolView(View, frozen=True, kw_only=True):
    """Sums over the usable clusters, and all clusters in short."""

    at: datetime
    usable: int
    nodes: int
    resources: dict[str, AmountsView]
    clusters: tuple[ClusterBrief, ...]


class NodeView(View, frozen=True, kw_only=True):
    """A node as last observed. *placements* says how many replicas are bound, for those who see all teams."""

    name: str
    usable: bool
    allocatable: dict[str, str]
    requested: dict[str, str]
    free: dict[str, str]
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    placements: dict[str, int]


class VerdictView(View, frozen=True, kw_only=True):
    """What a decision says of one cluster."""

    cluster: str
    verdict: str
    reason: str
    wanted: int
    fits: int
    previous: int
    score: int
    age_seconds: float


class DecisionView(View, frozen=True, kw_only=True):
    """A decision in short."""

    id: str
    workload: str
    at: datetime
    version: int
    outcome: str
    total: int
    placed: dict[str, int]
    previous: dict[str, int]
    summary: str
    reasons: tuple[str, ...]


class ExplanationView(View, frozen=True, kw_only=True):
    """Why a decision came out as it did, cluster by cluster."""

    workload: str
    decision: str
    at: datetime
    version: int
    outcome: str
    total: int
    clusters: tuple[VerdictView, ...]
    summary: str
    reasons: tuple[str, ...]


class ParkedView(View, frozen=True, kw_only=True):
    """A record that could not be folded; what is not text is shown escaped, and long values cut."""

    source: str
    offset: int
    at: datetime
    reason: str
    key: str
    headers: dict[str, str]
    value: str

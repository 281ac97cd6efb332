"""What a caller wants to run: pod shapes times replicas, constraints, a team; and the phases of its life."""

from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from federation.domain.errors import IllegalTransition
from federation.domain.events import Labels, Quantities

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DnsLabel = Annotated[str, Meta(pattern=DNS_LABEL, max_length=63)]
Replicas = Annotated[int, Meta(ge=0, le=100_000)]


class Spec(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True, gc=False):
    """Base of what callers write: an unknown field is refused."""


class Strategy(StrEnum):
    """How replicas are divided over clusters (Karmada's four)."""

    DUPLICATED = "duplicated"
    STATIC = "static"
    DYNAMIC = "dynamic"
    AGGREGATED = "aggregated"


class WorkloadKind(StrEnum):
    """What carries the pods in the member; CALLER means that the caller deploys them."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    JOB = "Job"
    CALLER = ""


class Toleration(Spec, frozen=True, kw_only=True):
    """As in Kubernetes; an empty key with operator Exists tolerates everything."""

    key: Annotated[str, Meta(max_length=317)] = ""
    operator: Annotated[str, Meta(pattern="^(Equal|Exists)$")] = "Equal"
    value: Annotated[str, Meta(max_length=253)] = ""
    effect: Annotated[str, Meta(max_length=32)] = ""
    toleration_seconds: Annotated[int, Meta(ge=0, le=2**31)] | None = None


class ClusterSelection(Spec, frozen=True, kw_only=True):
    """Which clusters may serve: by name, by labels (all must match), less those excluded."""

    names: Annotated[tuple[DnsLabel, ...], Meta(max_length=1000)] = ()
    labels: Labels = {}
    exclude: Annotated[tuple[DnsLabel, ...], Meta(max_length=1000)] = ()


class SpreadConstraint(Spec, frozen=True, kw_only=True):
    """Over how many groups: `cluster`, `region`, `zone`, `provider` or any label key. No maximum: as many as serve."""

    by: Annotated[str, Meta(min_length=1, max_length=317)]
    min_groups: Annotated[int, Meta(ge=1, le=1000)] = 1
    max_groups: Annotated[int, Meta(ge=1, le=1000)] | None = None


class Weight(Spec, frozen=True, kw_only=True):
    """A static weight for the clusters that match; a cluster takes the largest of its rules."""

    clusters: ClusterSelection = ClusterSelection()
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class PlacementRules(Spec, frozen=True, kw_only=True):
    """How the workload is to be placed. *partial*: `never`, `allow`, or the least number of replicas that is of use."""

    strategy: Strategy = Strategy.DYNAMIC
    weights: Annotated[tuple[Weight, ...], Meta(max_length=1000)] = ()
    clusters: ClusterSelection = ClusterSelection()
    cluster_tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=64)] = ()
    spread: Annotated[tuple[SpreadConstraint, ...], Meta(max_length=8)] = ()
    partial: Annotated[str, Meta(pattern=r"^(never|allow|min [1-9][0-9]{0,5})$")] = "never"


class Component(Spec, frozen=True, kw_only=True):
    """One pod shape of a workload. The core takes a list of them; one is what callers may send to begin with."""

    name: DnsLabel = "main"
    replicas: Replicas
    requests: Quantities = {}
    node_selector: Labels = {}
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=64)] = ()


class WorkloadSpec(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """A workload as the core knows it, its manifest taken apart.

    *surge* is how many pods a rollout may add; *completions* is set for Jobs; *single* means that it must stay in
    one cluster (StatefulSets, indexed Jobs). *revision* changes with the pod template and only with it.
    """

    name: str
    team: str = "default"
    priority: int = 0
    components: tuple[Component, ...]
    rules: PlacementRules = PlacementRules()
    kind: WorkloadKind = WorkloadKind.CALLER
    api: str = ""
    manifest: dict[str, Any] | None = None
    revision: str = ""
    surge: int = 0
    completions: int | None = None
    single: bool = False

    @property
    def replicas(self) -> int:
        """Replicas of all components together."""
        return sum(component.replicas for component in self.components)


class WorkloadPhase(StrEnum):
    """Where a workload stands; the words of the REST API."""

    PENDING = "pending"
    WAITING = "waiting"
    PLACED = "placed"
    DEGRADED = "degraded"
    COMPLETED = "completed"
    FAILED = "failed"
    DELETING = "deleting"


ENDED_PHASES: Final = (WorkloadPhase.COMPLETED, WorkloadPhase.FAILED)


class WorkloadStep(StrEnum):
    """What can happen to a workload."""

    PLACE = "place"
    FIND_NO_ROOM = "find no room"
    CHANGE = "change"
    LOSE = "lose replicas"
    COMPLETE = "complete"
    FAIL = "fail"
    DELETE = "delete"


_P, _S = WorkloadPhase, WorkloadStep
_ALIVE: Final = (_P.PENDING, _P.WAITING, _P.PLACED, _P.DEGRADED)
TRANSITIONS: Final[dict[tuple[WorkloadPhase, WorkloadStep], WorkloadPhase]] = {
    **{(phase, _S.PLACE): _P.PLACED for phase in _ALIVE},
    (_P.PENDING, _S.FIND_NO_ROOM): _P.WAITING,
    (_P.WAITING, _S.FIND_NO_ROOM): _P.WAITING,
    (_P.PLACED, _S.FIND_NO_ROOM): _P.DEGRADED,
    (_P.DEGRADED, _S.FIND_NO_ROOM): _P.DEGRADED,
    (_P.PENDING, _S.CHANGE): _P.PENDING,
    (_P.WAITING, _S.CHANGE): _P.PENDING,
    (_P.PLACED, _S.CHANGE): _P.PLACED,
    (_P.DEGRADED, _S.CHANGE): _P.DEGRADED,
    (_P.PLACED, _S.LOSE): _P.DEGRADED,
    (_P.DEGRADED, _S.LOSE): _P.DEGRADED,
    **{(phase, _S.COMPLETE): _P.COMPLETED for phase in (_P.PLACED, _P.DEGRADED)},
    **{(phase, _S.FAIL): _P.FAILED for phase in (_P.PLACED, _P.DEGRADED)},
    **{(phase, _S.DELETE): _P.DELETING for phase in _P},
}


class Workload(Struct, frozen=True, kw_only=True, gc=False):
    """A workload on record. *version* counts changes of its spec; *decided* is the version last decided.

    *reasons* say why it waits or is short. *avoid* names clusters that failed it, until a time (milliseconds), and
    *failures* how. *wake* says why it must be planned again although its spec is decided. *assigned* is how many replicas the last decision
    gave to clusters: fewer, by the world's doing, are planned again.
    """

    id: str
    spec: WorkloadSpec
    phase: WorkloadPhase = WorkloadPhase.PENDING
    version: int = 1
    decided: int = 0
    decision: str = ""
    reasons: tuple[str, ...] = ()
    wake: str = ""
    assigned: int = 0
    avoid: dict[str, int] = {}
    failures: dict[str, str] = {}
    created_ms: int = 0
    changed_ms: int = 0
    lease_until_ms: int | None = None

    def with_version(self, version: int, now_ms: int, reason: str) -> "Workload":
        """The workload at a new version of its spec, and why."""
        return msgspec.structs.replace(self, version=version, changed_ms=now_ms, reasons=(reason,))

    @property
    def queued(self) -> bool:
        """Whether the scheduler has to look at it."""
        return self.version > self.decided or bool(self.wake)

    def after(self, step: WorkloadStep) -> "Workload":
        """The workload once *step* has happened to it."""
        try:
            phase = TRANSITIONS[self.phase, step]
        except KeyError:
            raise IllegalTransition(f"workload {self.id}: {step} while {self.phase}") from None
        return msgspec.structs.replace(self, phase=phase)

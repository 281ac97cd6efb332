"""What stands on the wire beside the views: answers, lists and small bodies."""

from typing import Annotated

from msgspec import Meta, Struct

from federation.api.specs import WorkloadBody
from federation.domain.workload import Spec
from federation.services.views import (
    ClusterView,
    DecisionView,
    NodeView,
    ParkedView,
    VerdictView,
    View,
    WorkloadView,
)


class WorkloadAnswer(WorkloadView, frozen=True, kw_only=True):
    """A workload with the body that asks for it. *notes* say what the estimate leaves out of a manifest just sent."""

    spec: WorkloadBody
    notes: tuple[str, ...] = ()


class ClusterPatch(Spec, frozen=True, kw_only=True):
    """A cordoned cluster takes nothing new; what runs there stays."""

    cordoned: bool


class PlanPlacement(View, frozen=True, kw_only=True):
    """So many replicas there."""

    cluster: str
    replicas: int


class PlanExplanation(View, frozen=True, kw_only=True):
    """Why, cluster by cluster."""

    clusters: tuple[VerdictView, ...]
    summary: str


class PlanAnswer(View, frozen=True, kw_only=True):
    """What would be decided now; nothing was written."""

    outcome: str
    placements: tuple[PlanPlacement, ...]
    reasons: tuple[str, ...]
    explanation: PlanExplanation
    notes: tuple[str, ...] = ()


class ReplayAnswer(View, frozen=True, kw_only=True):
    """A decision as it was made, and as it comes out again."""

    same: bool
    placed: dict[str, int]
    recomputed: dict[str, int]


class Accepted(View, frozen=True, kw_only=True):
    """So many events were appended to the log."""

    accepted: int


Cursor = Annotated[str, Meta(description="Give it as `after` for the next page; null: this was the last")] | None


class WorkloadList(View, frozen=True, kw_only=True):
    items: tuple[WorkloadView, ...]
    next: Cursor


class ClusterList(View, frozen=True, kw_only=True):
    items: tuple[ClusterView, ...]
    next: Cursor


class NodeList(View, frozen=True, kw_only=True):
    items: tuple[NodeView, ...]
    next: Cursor


class DecisionList(View, frozen=True, kw_only=True):
    items: tuple[DecisionView, ...]
    next: Cursor


class ParkedList(View, frozen=True, kw_only=True):
    items: tuple[ParkedView, ...]
    next: Cursor


class Health(Struct, frozen=True, kw_only=True):
    """*status* is ok or failing; *checks* says of each part ok, or what is wrong."""

    status: str
    checks: dict[str, str]

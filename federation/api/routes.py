"""The one table of routes: who may call what, what it takes and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from federation.api import clusters, decisions, documents, events, health, live, workloads
from federation.api.bodies import JSON, MERGE_PATCH
from federation.api.calls import Handler
from federation.api.schemas import (
    Accepted,
    ClusterList,
    ClusterPatch,
    DecisionList,
    Health,
    NodeList,
    ParkedList,
    PlanAnswer,
    ReplayAnswer,
    WorkloadAnswer,
    WorkloadList,
)
from federation.api.specs import WorkloadBody
from federation.services.callers import Role
from federation.services.views import ClusterView, ExplanationView, PoolView

READERS: Final = frozenset({Role.VIEWER, Role.MEMBER, Role.OPERATOR})
WRITERS: Final = frozenset({Role.MEMBER, Role.OPERATOR})
OPERATORS: Final = frozenset({Role.OPERATOR})
OBSERVERS: Final = frozenset({Role.AGENT, Role.OPERATOR})
ANYBODY: Final[frozenset[Role]] = frozenset()

PAGE: Final = ("limit", "after")
PREFER: Final = "Prefer"
IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"
KEY: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """*roles* empty is public. *answers* maps a status to a type; None has no body, text is a media type."""

    method: str
    path: str
    handler: Handler
    summary: str
    roles: frozenset[Role] = READERS
    answers: Mapping[int, Any] = field(default_factory=dict)
    body: Any = None
    types: tuple[str, ...] = JSON
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique: the handler's name."""
        return self.handler.__name__


_W: Final = "/v1/workloads"
_ONE: Final = "/v1/workloads/{id}"

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path=_W,
        handler=workloads.post_workload,
        summary="Ask for a workload to run",
        roles=WRITERS,
        body=WorkloadBody,
        query=("dryRun",),
        headers=(PREFER, KEY),
        answers={200: PlanAnswer, 201: WorkloadAnswer, 202: WorkloadAnswer},
    ),
    Route(
        method="GET",
        path=_W,
        handler=workloads.list_workloads,
        summary="Workloads of the caller's team, by id; phase is the one on record",
        query=("team", "name", "phase", *PAGE),
        answers={200: WorkloadList},
    ),
    Route(
        method="GET",
        path=_ONE,
        handler=workloads.get_workload,
        summary="One workload, by id or name",
        headers=(IF_NONE_MATCH,),
        answers={200: WorkloadAnswer, 304: None},
    ),
    Route(
        method="PUT",
        path=_ONE,
        handler=workloads.put_workload,
        summary="Put another spec in place",
        roles=WRITERS,
        body=WorkloadBody,
        headers=(IF_MATCH, PREFER),
        answers={200: WorkloadAnswer, 202: WorkloadAnswer},
    ),
    Route(
        method="PATCH",
        path=_ONE,
        handler=workloads.patch_workload,
        summary="Change part of the spec (RFC 7396)",
        roles=WRITERS,
        body=WorkloadBody,
        types=MERGE_PATCH,
        headers=(IF_MATCH, PREFER),
        answers={200: WorkloadAnswer, 202: WorkloadAnswer},
    ),
    Route(
        method="DELETE",
        path=_ONE,
        handler=workloads.delete_workload,
        summary="Let a workload end; 204 once it is gone",
        roles=WRITERS,
        headers=(IF_MATCH, PREFER),
        answers={202: WorkloadAnswer, 204: None},
    ),
    Route(
        method="POST",
        path=_ONE + "/renewal",
        handler=workloads.renew_workload,
        summary="Renew the lease of a workload without a manifest",
        roles=WRITERS,
        headers=(IF_MATCH,),
        answers={200: WorkloadAnswer},
    ),
    Route(
        method="GET",
        path=_ONE + "/explanation",
        handler=decisions.get_explanation,
        summary="Why the latest decision came out as it did",
        answers={200: ExplanationView},
    ),
    Route(
        method="GET",
        path=_ONE + "/decisions",
        handler=decisions.list_decisions,
        summary="Decisions about a workload, newest first",
        query=("limit",),
        answers={200: DecisionList},
    ),
    Route(
        method="POST",
        path="/v1/plans",
        handler=workloads.post_plan,
        summary="What would be decided now; nothing is written",
        roles=WRITERS,
        body=WorkloadBody,
        answers={200: PlanAnswer},
    ),
    Route(
        method="GET",
        path="/v1/decisions/{id}",
        handler=decisions.get_decision,
        summary="One decision with its explanation",
        answers={200: ExplanationView},
    ),
    Route(
        method="POST",
        path="/v1/decisions/{id}/replay",
        handler=decisions.replay_decision,
        summary="Compute a decision again from what it was based on",
        roles=WRITERS,
        answers={200: ReplayAnswer},
    ),
    Route(
        method="GET",
        path="/v1/clusters",
        handler=clusters.list_clusters,
        summary="All clusters",
        headers=(IF_NONE_MATCH,),
        answers={200: ClusterList, 304: None},
    ),
    Route(
        method="GET",
        path="/v1/clusters/{name}",
        handler=clusters.get_cluster,
        summary="One cluster",
        roles=READERS | OBSERVERS,
        headers=(IF_NONE_MATCH,),
        answers={200: ClusterView, 304: None},
    ),
    Route(
        method="PATCH",
        path="/v1/clusters/{name}",
        handler=clusters.patch_cluster,
        summary="Cordon or uncordon a cluster",
        roles=OPERATORS,
        body=ClusterPatch,
        types=MERGE_PATCH,
        answers={200: ClusterView},
    ),
    Route(
        method="GET",
        path="/v1/clusters/{name}/nodes",
        handler=clusters.list_nodes,
        summary="The nodes of a cluster, by name",
        roles=READERS | OBSERVERS,
        query=PAGE,
        answers={200: NodeList},
    ),
    Route(
        method="GET",
        path="/v1/pool",
        handler=clusters.get_pool,
        summary="What all usable clusters have together",
        headers=(IF_NONE_MATCH,),
        answers={200: PoolView, 304: None},
    ),
    Route(
        method="POST",
        path="/v1/events",
        handler=events.post_events,
        summary="Append observations to the log (CloudEvents: binary, structured or batch)",
        roles=OBSERVERS,
        types=events.TYPES,
        body=dict[str, Any] | list[dict[str, Any]],
        answers={202: Accepted},
    ),
    Route(
        method="GET",
        path="/v1/events/parked",
        handler=events.list_parked,
        summary="Records that could not be folded, newest first",
        roles=OPERATORS,
        query=("limit",),
        answers={200: ParkedList},
    ),
    Route(
        method="GET",
        path="/v1/stream",
        handler=live.get_stream,
        summary="Server-sent events: workload, placement, cluster, decision; reset where an id cannot be resumed",
        headers=("Last-Event-ID",),
        answers={200: "text/event-stream"},
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=documents.get_openapi,
        summary="This API as OpenAPI 3.1",
        roles=ANYBODY,
        answers={200: "application/json"},
    ),
    Route(
        method="GET",
        path="/asyncapi.json",
        handler=documents.get_asyncapi,
        summary="Events and actions as AsyncAPI 3",
        roles=ANYBODY,
        answers={200: "application/json"},
    ),
    Route(
        method="GET",
        path="/livez",
        handler=health.get_livez,
        summary="Whether the process lives",
        roles=ANYBODY,
        answers={200: Health},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=health.get_readyz,
        summary="Whether it can serve",
        roles=ANYBODY,
        answers={200: Health, 503: Health},
    ),
    Route(
        method="GET",
        path="/healthz",
        handler=health.get_healthz,
        summary="As /readyz",
        roles=ANYBODY,
        answers={200: Health, 503: Health},
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=health.get_metrics,
        summary="Prometheus metrics",
        roles=ANYBODY,
        answers={200: "text/plain"},
    ),
)

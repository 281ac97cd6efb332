"""Rows to values and back: one JSON document a row, decoded typed."""

import zlib
from typing import Any, TypeVar

import msgspec

from federation.domain.cluster import Cluster, Node
from federation.domain.placement import Placement
from federation.domain.records import Cycle, Decision, Explanation, OutboxRow
from federation.domain.workload import Workload

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_CLUSTER = msgspec.json.Decoder(Cluster)
_NODE = msgspec.json.Decoder(Node)
_PLACEMENT = msgspec.json.Decoder(Placement)
_WORKLOAD = msgspec.json.Decoder(Workload)
_DECISION = msgspec.json.Decoder(Decision)
_EXPLANATION = msgspec.json.Decoder(Explanation)

cluster_from = _CLUSTER.decode
node_from = _NODE.decode
placement_from = _PLACEMENT.decode
workload_from = _WORKLOAD.decode
decision_from = _DECISION.decode


def text(value: Any) -> str:
    """A document as it is stored."""
    return _ENCODER.encode(value).decode()


def cluster_row(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.name, cluster.source, cluster.revision, text(cluster))


def placement_row(placement: Placement, revision: int) -> tuple[Any, ...]:
    return (
        placement.id,
        placement.workload,
        placement.cluster,
        revision,
        int(placement.released),
        text(placement),
    )


def workload_row(workload: Workload) -> tuple[Any, ...]:
    spec = workload.spec
    phase = workload.phase.value
    key = (workload.id, spec.team, spec.name, phase)
    state = (int(workload.queued), spec.priority, workload.lease_until_ms or 0, workload.decision)
    return (*key, *state, text(workload))


def cycle_row(cycle: Cycle) -> tuple[Any, ...]:
    return (cycle.id, cycle.at_ms, text(cycle))


def decision_row(decision: Decision) -> tuple[Any, ...]:
    return (decision.id, decision.workload, decision.explanation, decision.at_ms, text(decision))


def explanation_row(explanation: Explanation) -> tuple[Any, ...]:
    return (explanation.id, explanation.at_ms, zlib.compress(_ENCODER.encode(explanation), level=1))


def explanation_from(compressed: bytes) -> Explanation:
    return _EXPLANATION.decode(zlib.decompress(compressed))


def outbox_row(row: OutboxRow) -> tuple[Any, ...]:
    """All columns but the id, which counts by itself."""
    return (
        row.cluster,
        row.placement,
        row.version,
        row.type,
        text(row.doc),
        row.waits_for,
        row.number,
        row.generation,
        row.decision,
        row.created_ms,
        row.sent_ms,
    )


def outbox_from(row: Any) -> OutboxRow:
    return OutboxRow(
        id=row.id,
        cluster=row.cluster,
        placement=row.placement,
        version=row.version,
        type=row.type,
        doc=msgspec.json.decode(row.doc),
        waits_for=row.waits_for,
        number=row.number,
        generation=row.generation,
        decision=row.decision,
        created_ms=row.created_ms,
        sent_ms=row.sent_ms,
    )

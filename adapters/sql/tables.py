"""The schema: rows are keys and cursors in columns, the rest one JSON document a row.

Two cursors stand from the first migration on: `nodes` are read above the last offset seen of their source, and
`placements` above the last revision seen of their cluster. SQLite tables are STRICT.
"""

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.dialects import sqlite

Big = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
metadata = MetaData()


def _table(name: str, *parts: Column[object] | Index | UniqueConstraint) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True)


def _text(name: str, *, key: bool = False, default: str | None = None) -> Column[object]:
    return Column(name, Text, primary_key=key, nullable=False, server_default=default)


def _big(name: str, *, key: bool = False, counts: bool = False) -> Column[object]:
    return Column(name, Big, primary_key=key, nullable=False, autoincrement=counts)


partitions = _table("partitions", _text("source", key=True), _big("position"), _big("caught_up_ms"), _big("resets"))

clusters = _table("clusters", _text("name", key=True), _text("source"), _big("revision"), _text("doc"))

nodes = _table(
    "nodes",
    _text("cluster", key=True),
    _text("node", key=True),
    _text("source"),
    _big("position"),
    _text("doc"),
    Index("nodes_changed", "source", "position"),
)

placements = _table(
    "placements",
    _text("id", key=True),
    _text("workload"),
    _text("cluster"),
    _big("revision"),
    _big("released"),
    _text("doc"),
    Index("placements_changed", "cluster", "revision"),
    Index("placements_of_workload", "workload"),
)

workloads = _table(
    "workloads",
    _text("id", key=True),
    _text("team"),
    _text("name"),
    _text("phase"),
    _big("queued"),
    _big("priority"),
    _big("lease_until_ms"),
    _text("decision"),
    _text("doc"),
    UniqueConstraint("team", "name", name="workloads_name"),
    Index("workloads_queue", "queued", "priority", "id"),
    Index("workloads_phase", "phase", "id"),
    Index("workloads_lease", "lease_until_ms"),
)

cycles = _table("cycles", _text("id", key=True), _big("at_ms"), _text("doc"))

explanations = _table("explanations", _text("id", key=True), _big("at_ms"), Column("doc", LargeBinary, nullable=False))

decisions = _table(
    "decisions",
    _text("id", key=True),
    _text("workload"),
    _text("explanation"),
    _big("at_ms"),
    _text("doc"),
    Index("decisions_of_workload", "workload", "id"),
    Index("decisions_by_time", "at_ms"),
    Index("decisions_by_explanation", "explanation"),
)

outbox = _table(
    "outbox",
    _big("id", key=True, counts=True),
    _text("cluster"),
    _text("placement"),
    _big("version"),
    _text("type"),
    _text("doc"),
    _text("waits_for"),
    _big("number"),
    _big("generation"),
    _text("decision"),
    _big("created_ms"),
    _big("sent_ms"),
    Index("outbox_by_number", "cluster", "number"),
    Index("outbox_to_send", "sent_ms", "number"),
    Index("outbox_of_placement", "placement"),
)

parked_events = _table(
    "parked_events",
    _text("source", key=True),
    _big("position", key=True),
    _big("at_ms"),
    _text("reason"),
    _text("key"),
    _text("headers"),
    Column("value", LargeBinary, nullable=False),
    _big("told_ms"),
    Index("parked_by_time", "at_ms"),
    Index("parked_to_tell", "told_ms"),
)

idempotency = _table(
    "idempotency",
    _text("team", key=True),
    _text("key", key=True),
    _text("body"),
    _big("status"),
    Column("answer", LargeBinary, nullable=False),
    _big("at_ms"),
)

audit = _table(
    "audit",
    _big("id", key=True, counts=True),
    _big("at_ms"),
    _text("who"),
    _text("what"),
    _text("target"),
    _text("outcome"),
    _text("before"),
    _text("after"),
)

leases = _table("leases", _text("name", key=True), _text("holder"), _big("until_ms"))

meta = _table("meta", _text("name", key=True), _big("value"))

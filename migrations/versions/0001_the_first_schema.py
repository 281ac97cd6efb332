"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
BIG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_table(
        "clusters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "cycles",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_index("decisions_of_workload", "decisions", ["workload", "id"])
    op.create_index("decisions_by_time", "decisions", ["at_ms"])
    op.create_index("decisions_by_explanation", "decisions", ["explanation"])

    op.create_table(
        "explanations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("doc", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_table(
        "idempotency",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", BIG, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("team", "key"),
        sqlite_strict=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_strict=True,
    )
    op.create_table(
        "nodes",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", "node"),
        sqlite_strict=True,
    )
    op.create_index("nodes_changed", "nodes", ["source", "position"])

    op.create_table(
        "outbox",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("placement", sa.Text(), nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.Column("waits_for", sa.Text(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("generation", BIG, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("sent_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_index("outbox_by_number", "outbox", ["cluster", "number"])
    op.create_index("outbox_of_placement", "outbox", ["placement"])
    op.create_index("outbox_to_send", "outbox", ["sent_ms", "number"])

    op.create_table(
        "parked_events",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("told_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("source", "position"),
        sqlite_strict=True,
    )
    op.create_index("parked_by_time", "parked_events", ["at_ms"])
    op.create_index("parked_to_tell", "parked_events", ["told_ms"])

    op.create_table(
        "partitions",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("caught_up_ms", BIG, nullable=False),
        sa.Column("resets", BIG, nullable=False),
        sa.PrimaryKeyConstraint("source"),
        sqlite_strict=True,
    )
    op.create_table(
        "placements",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("released", BIG, nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_strict=True,
    )
    op.create_index("placements_changed", "placements", ["cluster", "revision"])
    op.create_index("placements_of_workload", "placements", ["workload"])

    op.create_table(
        "workloads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("queued", BIG, nullable=False),
        sa.Column("priority", BIG, nullable=False),
        sa.Column("lease_until_ms", BIG, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("team", "name", name="workloads_name"),
        sqlite_strict=True,
    )
    op.create_index("workloads_phase", "workloads", ["phase", "id"])
    op.create_index("workloads_lease", "workloads", ["lease_until_ms"])
    op.create_index("workloads_queue", "workloads", ["queued", "priority", "id"])


def downgrade() -> None:
    op.drop_index("workloads_lease", "workloads")
    op.drop_index("workloads_queue", "workloads")
    op.drop_index("workloads_phase", "workloads")

    op.drop_table("workloads")
    op.drop_index("placements_of_workload", "placements")
    op.drop_index("placements_changed", "placements")

    op.drop_table("placements")
    op.drop_table("partitions")
    op.drop_index("parked_to_tell", "parked_events")
    op.drop_index("parked_by_time", "parked_events")

    op.drop_table("parked_events")
    op.drop_index("outbox_to_send", "outbox")
    op.drop_index("outbox_of_placement", "outbox")
    op.drop_index("outbox_by_number", "outbox")

    op.drop_table("outbox")
    op.drop_index("nodes_changed", "nodes")

    op.drop_table("nodes")
    op.drop_table("meta")
    op.drop_table("leases")
    op.drop_table("idempotency")
    op.drop_table("explanations")
    op.drop_index("decisions_by_explanation", "decisions")
    op.drop_index("decisions_by_time", "decisions")
    op.drop_index("decisions_of_workload", "decisions")

    op.drop_table("decisions")
    op.drop_table("cycles")
    op.drop_table("clusters")
    op.drop_table("audit")

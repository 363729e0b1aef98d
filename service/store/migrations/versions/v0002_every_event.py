"""Events by several roads, batches, throttles, backfills, and what is sent out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store import columns

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "backfill_slots",
        sa.Column("backfill_id", columns.Key(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("start", columns.Moment(), nullable=True),
        sa.Column("end", columns.Moment(), nullable=True),
        sa.Column("event_id", columns.Key(), nullable=True),
        sa.Column("state", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("run_id", columns.Key(), nullable=True),
        sa.PrimaryKeyConstraint("backfill_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "backfill_slots_by_run",
        "backfill_slots",
        ["run_id"],
        unique=False,
        postgresql_where=sa.text("run_id IS NOT NULL"),
        sqlite_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_table(
        "backfills",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=True),
        sa.Column("spec", columns.Json(), nullable=False),
        sa.Column("state", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("stop_after", sa.Integer(), nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("backfills_by_pipeline", "backfills", ["project", "pipeline", "id"], unique=False)
    op.create_index(
        "backfills_open",
        "backfills",
        ["id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "outgoing",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("address", columns.Key(), nullable=False),
        sa.Column("event_id", columns.Key(), nullable=False),
        sa.Column("type", columns.Key(), nullable=False),
        sa.Column("body", columns.Verbatim(), nullable=False),
        sa.Column("state", columns.Key(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", columns.Moment(), nullable=True),
        sa.Column("error", columns.Prose(), nullable=True),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("sent_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id", "address", name="outgoing_once"),
    )
    op.create_index("outgoing_by_age", "outgoing", ["created_at"], unique=False)
    op.create_index(
        "outgoing_due",
        "outgoing",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("next_at IS NOT NULL"),
        sqlite_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "throttles",
        sa.Column("key", columns.Key(), nullable=False),
        sa.Column("window_start", columns.Moment(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.add_column("event_keys", sa.Column("triggers", columns.Json(), nullable=True))
    op.add_column("event_matches", sa.Column("settle_group", columns.Key(), nullable=True))
    op.add_column("events", sa.Column("hops", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("events", sa.Column("payload_until", columns.Moment(), nullable=True))
    op.add_column("events", sa.Column("keep_until", columns.Moment(), nullable=True))
    op.create_index(
        "events_by_end",
        "events",
        ["keep_until"],
        unique=False,
        postgresql_where=sa.text("keep_until IS NOT NULL"),
        sqlite_where=sa.text("keep_until IS NOT NULL"),
    )
    op.create_index(
        "events_by_payload_end",
        "events",
        ["payload_until"],
        unique=False,
        postgresql_where=sa.text("payload_until IS NOT NULL"),
        sqlite_where=sa.text("payload_until IS NOT NULL"),
    )
    op.add_column("runs", sa.Column("hops", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("backfill_id", columns.Key(), nullable=True))
    op.add_column("runs", sa.Column("announced", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_index(
        "runs_of_backfill",
        "runs",
        ["backfill_id", "state"],
        unique=False,
        postgresql_where=sa.text("backfill_id IS NOT NULL"),
        sqlite_where=sa.text("backfill_id IS NOT NULL"),
    )
    op.create_index(
        "runs_unannounced",
        "runs",
        ["id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND announced = false"),
        sqlite_where=sa.text("finished_at IS NOT NULL AND announced = false"),
    )
    op.add_column("sensor_ticks", sa.Column("reconciled", sa.Integer(), nullable=False, server_default="0"))

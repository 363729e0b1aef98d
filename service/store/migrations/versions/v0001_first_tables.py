"""The first tables: events, runs, block runs, logs, triggers, ticks, engines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.store import columns

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "block_runs",
        sa.Column("run_id", columns.Key(), nullable=False),
        sa.Column("name", columns.Key(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", columns.Key(), nullable=False),
        sa.Column("state", columns.Key(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.Column("rows", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("error", columns.Prose(), nullable=True),
        sa.Column("retry_at", columns.Moment(), nullable=True),
        sa.Column("checkpoint", columns.Json(), nullable=True),
        sa.Column("volatile", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deliveries",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("event_id", columns.Key(), nullable=False),
        sa.Column("verdict", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("road", columns.Key(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("deliveries_by_event", "deliveries", ["event_id"], unique=False)
    op.create_table(
        "engines",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("host", columns.Prose(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("version", columns.Prose(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=False),
        sa.Column("beat_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event_keys",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("event_id", columns.Key(), nullable=False),
        sa.Column("outcome", columns.Key(), nullable=True),
        sa.Column("run_ids", columns.Json(), nullable=True),
        sa.Column("first_seen", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("event_keys_by_event", "event_keys", ["event_id"], unique=False)
    op.create_table(
        "event_matches",
        sa.Column("event_id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("outcome", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("run_id", columns.Key(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", "pipeline", "trigger"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "event_matches_by_trigger",
        "event_matches",
        ["project", "pipeline", "trigger", "event_id"],
        unique=False,
    )
    op.create_index(
        "event_matches_held",
        "event_matches",
        ["project", "pipeline", "trigger", "event_id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'held'"),
        sqlite_where=sa.text("outcome = 'held'"),
    )
    op.create_table(
        "events",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("source", columns.Key(), nullable=False),
        sa.Column("key", columns.Key(), nullable=False),
        sa.Column("type", columns.Key(), nullable=False),
        sa.Column("subject", columns.Key(), nullable=True),
        sa.Column("time", columns.Moment(), nullable=False),
        sa.Column("received_at", columns.Moment(), nullable=False),
        sa.Column("outcome", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("data", columns.Verbatim(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=True),
        sa.Column("content_type", columns.Prose(), nullable=True),
        sa.Column("headers", columns.Json(), nullable=True),
        sa.Column("replay_of", columns.Key(), nullable=True),
        sa.Column("payload_expired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "events_by_outcome",
        "events",
        ["project", "outcome", "id"],
        unique=False,
        postgresql_where=sa.text("outcome <> 'ran'"),
        sqlite_where=sa.text("outcome <> 'ran'"),
    )
    op.create_index("events_by_source", "events", ["project", "source", "id"], unique=False)
    op.create_index(
        "events_with_payload",
        "events",
        ["received_at"],
        unique=False,
        postgresql_where=sa.text("payload_expired = false"),
        sqlite_where=sa.text("payload_expired = false"),
    )
    op.create_table(
        "limits",
        sa.Column("key", columns.Key(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meta",
        sa.Column("name", columns.Key(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "pins",
        sa.Column("hash", columns.Key(), nullable=False),
        sa.Column("sources", columns.Json(), nullable=False),
        sa.Column("blocks", columns.Json(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "refusals",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("road", columns.Prose(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=False),
        sa.Column("remote", columns.Prose(), nullable=False),
        sa.Column("project", columns.Prose(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "run_limits",
        sa.Column("key", columns.Key(), nullable=False),
        sa.Column("run_id", columns.Key(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("run_limits_in_line", "run_limits", ["key", "held", "rank", "run_id"], unique=False)
    op.create_table(
        "run_logs",
        sa.Column("run_id", columns.Key(), nullable=False),
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", columns.Moment(), nullable=False),
        sa.Column("level", columns.Key(), nullable=False),
        sa.Column("block", columns.Key(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("text", columns.Prose(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=True),
        sa.Column("event_id", columns.Key(), nullable=True),
        sa.Column("state", columns.Key(), nullable=False),
        sa.Column("execution_date", columns.Moment(), nullable=False),
        sa.Column("interval_start", columns.Moment(), nullable=True),
        sa.Column("interval_end", columns.Moment(), nullable=True),
        sa.Column("timezone", columns.Key(), nullable=False),
        sa.Column("variables", columns.Json(), nullable=False),
        sa.Column("selection", columns.Json(), nullable=True),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("limits", columns.Json(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("pin", columns.Key(), nullable=True),
        sa.Column("engine_id", columns.Key(), nullable=True),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("available_at", columns.Moment(), nullable=True),
        sa.Column("blocked_by", columns.Key(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=True),
        sa.Column("finished_at", columns.Moment(), nullable=True),
        sa.Column("error", columns.Prose(), nullable=True),
        sa.Column("idempotency", columns.Key(), nullable=True),
        sa.Column("checkpoints_deleted", sa.Boolean(), nullable=False),
        sa.Column("log_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("log_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id", "project", "pipeline", "trigger", name="runs_once_per_event"),
    )
    op.create_index(
        "runs_blocked",
        "runs",
        ["blocked_by"],
        unique=False,
        postgresql_where=sa.text("blocked_by IS NOT NULL"),
        sqlite_where=sa.text("blocked_by IS NOT NULL"),
    )
    op.create_index("runs_by_idempotency", "runs", ["idempotency"], unique=True)
    op.create_index("runs_by_pipeline", "runs", ["project", "pipeline", "id"], unique=False)
    op.create_index("runs_by_state", "runs", ["state", "project", "id"], unique=False)
    op.create_index(
        "runs_due",
        "runs",
        ["available_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
        sqlite_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "runs_leased",
        "runs",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("state = 'running'"),
        sqlite_where=sa.text("state = 'running'"),
    )
    op.create_index(
        "runs_pinned",
        "runs",
        ["pin"],
        unique=False,
        postgresql_where=sa.text("pin IS NOT NULL"),
        sqlite_where=sa.text("pin IS NOT NULL"),
    )
    op.create_index(
        "runs_queued",
        "runs",
        ["rank", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
        sqlite_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "runs_with_checkpoints",
        "runs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NOT NULL AND checkpoints_deleted = false"),
        sqlite_where=sa.text("finished_at IS NOT NULL AND checkpoints_deleted = false"),
    )
    op.create_table(
        "sensor_ticks",
        sa.Column("id", columns.Key(), nullable=False),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=False),
        sa.Column("tick_at", columns.Moment(), nullable=False),
        sa.Column("started_at", columns.Moment(), nullable=False),
        sa.Column("finished_at", columns.Moment(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("filtered", sa.Integer(), nullable=False),
        sa.Column("capped", sa.Integer(), nullable=False),
        sa.Column("error", columns.Prose(), nullable=True),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("cursor_before", columns.Json(), nullable=True),
        sa.Column("cursor_after", columns.Json(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "sensor_ticks_by_trigger", "sensor_ticks", ["project", "pipeline", "trigger", "id"], unique=False
    )
    op.create_table(
        "sensors",
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=False),
        sa.Column("cursor", columns.Json(), nullable=True),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("engine_id", columns.Key(), nullable=True),
        sa.Column("lease_until", columns.Moment(), nullable=True),
        sa.Column("ticked_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("project", "pipeline", "trigger"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ticks",
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("trigger", columns.Key(), nullable=False),
        sa.Column("tick_at", columns.Moment(), nullable=False),
        sa.Column("outcome", columns.Key(), nullable=False),
        sa.Column("reason", columns.Prose(), nullable=True),
        sa.Column("event_id", columns.Key(), nullable=True),
        sa.Column("run_id", columns.Key(), nullable=True),
        sa.Column("recorded_at", columns.Moment(), nullable=False),
        sa.PrimaryKeyConstraint("project", "pipeline", "trigger", "tick_at"),
        sqlite_with_rowid=False,
    )
    op.create_index("ticks_by_age", "ticks", ["recorded_at"], unique=False)
    op.create_table(
        "triggers",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("project", columns.Key(), nullable=False),
        sa.Column("pipeline", columns.Key(), nullable=False),
        sa.Column("name", columns.Key(), nullable=False),
        sa.Column("token", columns.Key(), nullable=False),
        sa.Column("created_at", columns.Moment(), nullable=False),
        sa.Column("paused_at", columns.Moment(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("project", "pipeline", "name", name="triggers_once"),
        sa.UniqueConstraint("token", name="triggers_by_token"),
    )

"""The tables. Whoever changes one adds a migration; a test compares both."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from service.store.columns import Json, Key, Moment, Prose, RowNumber, Verbatim

metadata = MetaData()


def _partial(name: str, *columns: object, where: str) -> Index:
    condition = text(where)
    return Index(name, *columns, postgresql_where=condition, sqlite_where=condition)  # type: ignore[arg-type]


# Facts about this store: the schema's version, the secret that digests event keys.
meta = Table("meta", metadata, Column("name", Key, primary_key=True), Column("value", Text, nullable=False))

# The judge of duplicates. A row outlives its event: payloads expire, keys do not.
event_keys = Table(
    "event_keys",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("event_id", Key, nullable=False),
    # Filled in when the event itself is pruned, so that a late repeat still gets the first answer.
    Column("outcome", Key),
    Column("run_ids", Json),
    Column("triggers", Json),  # pairs of pipeline and trigger that have had the event
    Column("first_seen", Moment, nullable=False),
    Index("event_keys_by_event", "event_id"),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("source", Key, nullable=False),
    Column("key", Key, nullable=False),
    Column("type", Key, nullable=False),
    Column("subject", Key),
    Column("time", Moment, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("outcome", Key, nullable=False),
    Column("reason", Prose),
    Column("data", Verbatim),  # JSON text
    Column("raw", LargeBinary),
    Column("content_type", Prose),
    Column("headers", Json),
    Column("replay_of", Key),
    Column("payload_expired", Boolean, nullable=False, default=False),
    Column("hops", Integer, nullable=False),  # runs that led to it: 0 for what comes from outside
    Column("payload_until", Moment),  # where its triggers say so; else the service's retention counts
    Column("keep_until", Moment),
    Index("events_by_source", "project", "source", "id"),
    # Nearly all events ran; the others are looked for.
    _partial("events_by_outcome", "project", "outcome", "id", where="outcome <> 'ran'"),
    _partial("events_with_payload", "received_at", where="payload_expired = false"),
    _partial("events_by_payload_end", "payload_until", where="payload_until IS NOT NULL"),
    _partial("events_by_end", "keep_until", where="keep_until IS NOT NULL"),
)

matches = Table(
    "event_matches",
    metadata,
    Column("event_id", Key, nullable=False),
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key, nullable=False),
    Column("position", Integer, nullable=False),
    Column("outcome", Key, nullable=False),
    Column("reason", Prose),
    Column("run_id", Key),
    Column("settle_group", Key),  # of a held match that waits for its batch
    PrimaryKeyConstraint("event_id", "pipeline", "trigger"),
    Index("event_matches_by_trigger", "project", "pipeline", "trigger", "event_id"),
    _partial("event_matches_held", "project", "pipeline", "trigger", "event_id", where="outcome = 'held'"),
    sqlite_with_rowid=False,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("event_id", Key, nullable=False),
    Column("verdict", Key, nullable=False),
    Column("reason", Prose),
    Column("at", Moment, nullable=False),
    Column("road", Key, nullable=False),
    Index("deliveries_by_event", "event_id"),
)

# A bounded ring: what was refused has no event, and no claim on our disk.
refusals = Table(
    "refusals",
    metadata,
    Column("id", RowNumber, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("road", Prose, nullable=False),
    Column("reason", Prose, nullable=False),
    Column("remote", Prose, nullable=False),
    Column("project", Prose),
    sqlite_autoincrement=True,  # the ring is cut by id, so an id must never come twice
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key),
    Column("event_id", Key),
    Column("state", Key, nullable=False),
    Column("execution_date", Moment, nullable=False),
    Column("interval_start", Moment),
    Column("interval_end", Moment),
    Column("timezone", Key, nullable=False),
    Column("variables", Json, nullable=False),
    Column("selection", Json),
    Column("rank", Integer, nullable=False),  # the priority negated: lower first
    Column("limits", Json),  # pairs of key and maximum; while it is open they lie in run_limits, too
    Column("attempt", Integer, nullable=False),
    Column("claim", Integer, nullable=False),
    Column("pin", Key),
    Column("engine_id", Key),
    Column("lease_until", Moment),
    Column("available_at", Moment),
    Column("blocked_by", Key),  # the limit that holds a waiting run
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("error", Prose),
    Column("idempotency", Key),  # digest of project and the caller's key
    Column("checkpoints_deleted", Boolean, nullable=False),
    Column("log_seq", RowNumber, nullable=False),
    Column("log_bytes", RowNumber, nullable=False),
    Column("hops", Integer, nullable=False),
    Column("backfill_id", Key),
    Column("announced", Boolean, nullable=False),  # its end was looked at: triggers, senders, backfills
    Column("options", Json),  # how it is to be run: allow_blocks_to_fail, timeout_seconds, ...
    Column("parent_run_id", Key),  # the run whose block started it
    # One run per trigger and event, for ever. NULLs are distinct, so runs by hand are free.
    UniqueConstraint("event_id", "project", "pipeline", "trigger", name="runs_once_per_event"),
    Index("runs_by_pipeline", "project", "pipeline", "id"),
    Index("runs_by_state", "state", "project", "id"),
    _partial("runs_queued", "rank", "id", where="state = 'queued'"),
    _partial("runs_due", "available_at", where="state = 'waiting'"),
    _partial("runs_blocked", "blocked_by", where="blocked_by IS NOT NULL"),
    _partial("runs_leased", "lease_until", where="state = 'running'"),
    _partial("runs_unannounced", "id", where="finished_at IS NOT NULL AND announced = false"),
    _partial("runs_of_backfill", "backfill_id", "state", where="backfill_id IS NOT NULL"),
    _partial("runs_pinned", "pin", where="pin IS NOT NULL"),
    _partial(
        "runs_with_checkpoints",
        "finished_at",
        where="finished_at IS NOT NULL AND checkpoints_deleted = false",
    ),
    Index("runs_by_idempotency", "idempotency", unique=True),
    _partial("runs_by_parent", "parent_run_id", "id", where="parent_run_id IS NOT NULL"),
)

# Which run a call of a block waits for, to have a global data product.
awaited_runs = Table(
    "awaited_runs",
    metadata,
    *(Column(name, Key, nullable=False) for name in ("run_id", "call", "product", "awaited")),
    PrimaryKeyConstraint("run_id", "call"),
    sqlite_with_rowid=False,
)

block_runs = Table(
    "block_runs",
    metadata,
    Column("run_id", Key, nullable=False),
    Column("name", Key, nullable=False),
    Column("position", Integer, nullable=False),
    Column("type", Key, nullable=False),
    Column("state", Key, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("rows", RowNumber),
    Column("error", Prose),
    Column("retry_at", Moment),
    Column("checkpoint", Json),
    Column("volatile", Boolean, nullable=False),
    Column("parent", Key),  # of a dynamic child: the block that it is one of
    Column("item", Integer),  # of a dynamic child: its number among them
    Column("reason", Prose),  # why it waits, or was skipped
    Column("first_started_at", Moment),  # over all tries and looks
    Column("killed", Boolean),  # it failed by being ended from outside; its callbacks have not heard of it
    PrimaryKeyConstraint("run_id", "name"),
    sqlite_with_rowid=False,
)

run_logs = Table(
    "run_logs",
    metadata,
    Column("run_id", Key, nullable=False),
    Column("seq", RowNumber, nullable=False),
    Column("at", Moment, nullable=False),
    Column("level", Key, nullable=False),
    Column("block", Key),
    Column("attempt", Integer, nullable=False),
    Column("text", Prose, nullable=False),
    PrimaryKeyConstraint("run_id", "seq"),
    sqlite_with_rowid=False,
)

# Sources as they were at a run's first claim, once for all runs that share them.
pins = Table(
    "pins",
    metadata,
    Column("hash", Key, primary_key=True),
    Column("sources", Json, nullable=False),
    Column("blocks", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
)

# The row that a claim locks before it counts who holds a limit.
limits = Table("limits", metadata, Column("key", Key, primary_key=True), sqlite_with_rowid=False)

# Which limits an open run needs, and whether it holds them. Rows go when the run is final.
run_limits = Table(
    "run_limits",
    metadata,
    Column("key", Key, nullable=False),
    Column("run_id", Key, nullable=False),
    Column("maximum", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("held", Boolean, nullable=False),
    PrimaryKeyConstraint("run_id", "key"),
    Index("run_limits_in_line", "key", "held", "rank", "run_id"),
    sqlite_with_rowid=False,
)

# How many runs of a throttle began in its newest window, which may lie ahead.
throttles = Table(
    "throttles",
    metadata,
    Column("key", Key, primary_key=True),
    Column("window_start", Moment, nullable=False),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Events of ours on their way to the addresses that a project names.
outgoing = Table(
    "outgoing",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("address", Key, nullable=False),  # its name in the project's metadata.yaml
    Column("event_id", Key, nullable=False),
    Column("type", Key, nullable=False),
    Column("body", Verbatim, nullable=False),  # the CloudEvent as JSON text
    Column("state", Key, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Moment),  # when the next try is due; none once it is sent or given up
    Column("error", Prose),
    Column("created_at", Moment, nullable=False),
    Column("sent_at", Moment),
    UniqueConstraint("event_id", "address", name="outgoing_once"),
    _partial("outgoing_due", "next_at", where="next_at IS NOT NULL"),
    Index("outgoing_by_age", "created_at"),
)

backfills = Table(
    "backfills",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key),
    Column("spec", Json, nullable=False),  # what was asked for
    Column("state", Key, nullable=False),
    Column("reason", Prose),
    Column("concurrency", Integer, nullable=False),
    Column("stop_after", Integer),  # failures
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Index("backfills_by_pipeline", "project", "pipeline", "id"),
    _partial("backfills_open", "id", where="finished_at IS NULL"),
)

# A backfill's runs to be, as they were previewed. Slots of one chunk share a run.
backfill_slots = Table(
    "backfill_slots",
    metadata,
    Column("backfill_id", Key, nullable=False),
    Column("position", Integer, nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("start", Moment),
    Column("end", Moment),
    Column("event_id", Key),  # of a backfill over events: the one that is done again
    Column("state", Key, nullable=False),
    Column("reason", Prose),
    Column("run_id", Key),
    PrimaryKeyConstraint("backfill_id", "position"),
    _partial("backfill_slots_by_run", "run_id", where="run_id IS NOT NULL"),
    sqlite_with_rowid=False,
)

triggers = Table(
    "triggers",
    metadata,
    Column("number", RowNumber, primary_key=True, autoincrement=True),  # the id in Mage's webhook addresses
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("name", Key, nullable=False),
    Column("token", Key, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("paused_at", Moment),
    UniqueConstraint("project", "pipeline", "name", name="triggers_once"),
    UniqueConstraint("token", name="triggers_by_token"),
)

ticks = Table(
    "ticks",
    metadata,
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key, nullable=False),
    Column("tick_at", Moment, nullable=False),
    Column("outcome", Key, nullable=False),
    Column("reason", Prose),
    Column("event_id", Key),
    Column("run_id", Key),
    Column("recorded_at", Moment, nullable=False),
    PrimaryKeyConstraint("project", "pipeline", "trigger", "tick_at"),
    Index("ticks_by_age", "recorded_at"),
    sqlite_with_rowid=False,
)

sensors = Table(
    "sensors",
    metadata,
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key, nullable=False),
    Column("cursor", Json),
    Column("claim", Integer, nullable=False),
    Column("engine_id", Key),
    Column("lease_until", Moment),
    Column("ticked_at", Moment),  # the due moment of the last tick that was claimed
    PrimaryKeyConstraint("project", "pipeline", "trigger"),
    sqlite_with_rowid=False,
)

sensor_ticks = Table(
    "sensor_ticks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("project", Key, nullable=False),
    Column("pipeline", Key, nullable=False),
    Column("trigger", Key, nullable=False),
    Column("tick_at", Moment, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("new", Integer, nullable=False),
    Column("duplicate", Integer, nullable=False),
    Column("filtered", Integer, nullable=False),
    Column("capped", Integer, nullable=False),
    Column("reconciled", Integer, nullable=False),  # new ones that no notification had told of
    Column("error", Prose),
    Column("reason", Prose),
    Column("cursor_before", Json),
    Column("cursor_after", Json),
    Index("sensor_ticks_by_trigger", "project", "pipeline", "trigger", "id"),
)

engines = Table(
    "engines",
    metadata,
    Column("id", Key, primary_key=True),
    Column("host", Prose, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("version", Prose, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("beat_at", Moment, nullable=False),
)

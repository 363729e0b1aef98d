"""Short ways to make what the store takes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import update

from service.store import events, runs
from service.store.ids import new_id
from service.store.session import Commit, Database
from service.store.tables import runs as runs_table
from service.store.values import (
    ClaimedRun,
    Limit,
    NewEvent,
    NewMatch,
    NewRun,
    Outcome,
    Pin,
    Recorded,
    Run,
    RunState,
)

NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
BLOCKS = (("load", "data_loader"), ("clean", "transformer"), ("export", "data_exporter"))
PIN = Pin("hash-1", {"pipelines/taxi/metadata.yaml": "name: taxi"}, BLOCKS)


def new_run(pipeline: str = "taxi", *, limits: Sequence[Limit] = (), priority: int = 0) -> NewRun:
    return NewRun(
        id=new_id(),
        project="shop",
        pipeline=pipeline,
        execution_date=NOON,
        variables={"month": "2024-01"},
        limits=tuple(limits),
        priority=priority,
    )


def new_event(key: str, *, outcome: Outcome = Outcome.RAN, at: datetime = NOON) -> NewEvent:
    """An event of the webhook taxi/hook, with a run when its outcome is RAN."""
    event_id = new_id()
    run = replace(new_run(), trigger="hook", event_id=event_id) if outcome is Outcome.RAN else None
    return NewEvent(
        id=event_id,
        project="shop",
        source="webhook:taxi/hook",
        key=key,
        type="webhook.received",
        time=at,
        received_at=at,
        outcome=outcome,
        data='{"amount":3}',
        headers={"content-type": "application/json"},
        road="webhook:taxi/hook",
        matches=(NewMatch("taxi", "hook", outcome, run=run),),
    )


def record(database: Database, *new: NewEvent) -> list[Recorded | Exception]:
    return database.write(Commit.ACCEPT, lambda tx: events.record(tx, new))


def recorded(database: Database, *new: NewEvent) -> list[Recorded]:
    answers = record(database, *new)
    assert all(isinstance(answer, Recorded) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Recorded)]


def enqueue(database: Database, new: NewRun | None = None) -> Run:
    return database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new or new_run()))[0]


def claim(
    database: Database,
    *,
    slots: int = 1,
    engine_id: str = "engine-1",
    lease_seconds: float = 60,
    pin: Pin | str = PIN,
    only: list[str] | None = None,
) -> list[ClaimedRun]:
    return database.write(
        Commit.CLAIM,
        lambda tx: runs.claim(
            tx,
            engine_id=engine_id,
            slots=slots,
            lease_seconds=lease_seconds,
            projects=["shop"],
            pin=lambda run: pin,
            only=only,
        ),
    )


def claimed(database: Database, *, lease_seconds: float = 60) -> ClaimedRun:
    """Enqueue a run and claim it."""
    run = enqueue(database)
    (one,) = claim(database, lease_seconds=lease_seconds, only=[run.id])
    return one


def end_open_runs(database: Database) -> None:
    """Have all runs that are open end well, by whatever engine."""
    is_open = runs_table.c.finished_at.is_(None)
    database.write(
        Commit.REPORT,
        lambda tx: tx.connection.execute(
            update(runs_table).where(is_open).values(state=RunState.SUCCEEDED, finished_at=tx.now)
        ),
    )


def get(database: Database, run_id: str) -> Run:
    with database.read() as connection:
        run = runs.get(connection, run_id)
    assert run is not None
    return run

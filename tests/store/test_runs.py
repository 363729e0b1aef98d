from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from service.errors import IdempotencyConflict, NotFound, WrongState
from service.store import runs
from service.store.runs import RunFilters
from service.store.session import Commit, Database
from service.store.values import BlockEnded, BlockStarted, BlockState, RunEnded, RunState
from tests.store.builders import NOON, claim, claimed, enqueue, get, new_run


def test_a_run_comes_back_as_it_was_put_in(database: Database) -> None:
    new = replace(
        new_run(),
        trigger="nightly",
        interval_start=NOON - timedelta(days=1),
        interval_end=NOON,
        timezone="Europe/Berlin",
        selection=("clean",),
    )

    run = enqueue(database, new)

    assert run == get(database, new.id)
    assert (run.state, run.attempt, run.claim) == (RunState.QUEUED, 1, 0)
    assert (run.interval_start, run.interval_end) == (NOON - timedelta(days=1), NOON)
    assert (run.execution_date, run.timezone, run.selection) == (NOON, "Europe/Berlin", ("clean",))


def test_an_idempotency_key_gives_the_same_run_again(database: Database) -> None:
    def ask(key: str) -> tuple[str, bool]:
        run, created = database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new_run(), key))
        return run.id, created

    first, again, other = ask("k1"), ask("k1"), ask("k2")

    assert first[1]
    assert again == (first[0], False)
    assert other[1]
    assert other[0] != first[0]


def test_an_idempotency_key_with_another_request_is_refused(database: Database) -> None:
    database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new_run(), "k"))

    with pytest.raises(IdempotencyConflict, match="fresh key"):
        database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new_run("titanic"), "k"))


def test_lists_are_newest_first_paged_and_filtered(database: Database) -> None:
    made = [enqueue(database, new_run("taxi" if number % 2 else "titanic")) for number in range(4)]
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, made[0].id))

    def ids(filters: RunFilters | None = None, **page: object) -> list[str]:
        with database.read() as connection:
            return [run.id for run in runs.listing(connection, filters, **page)]  # type: ignore[arg-type]

    assert ids() == [run.id for run in reversed(made)]
    assert ids(limit=1, after_id=made[3].id) == [made[2].id]
    assert ids(RunFilters(pipeline="taxi")) == [made[3].id, made[1].id]
    assert ids(RunFilters(states=(RunState.CANCELLED,))) == [made[0].id]
    assert ids(RunFilters(project="lab")) == []
    assert ids(RunFilters(since=made[2].created_at)) == [made[3].id, made[2].id]


def test_runs_are_counted_by_state(database: Database) -> None:
    enqueue(database)
    claimed(database)

    with database.read() as connection:
        found = runs.counts(connection)

    assert found[RunState.QUEUED] == found[RunState.RUNNING] == 1
    assert found[RunState.FAILED] == 0


def test_cancelling_a_queued_run_ends_it_at_once(database: Database) -> None:
    run = enqueue(database)

    cancelled = database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run.id))

    assert cancelled.state is RunState.CANCELLED
    assert cancelled.finished_at is not None
    assert claim(database) == []


def test_cancelling_a_running_run_asks_its_engine(database: Database) -> None:
    one = claimed(database)

    asked, topics = database.write(Commit.CANCEL, lambda tx: (runs.cancel(tx, one.run.id), list(tx.topics)))

    assert (asked.state, asked.cancel_requested) == (RunState.RUNNING, True)
    assert topics == [f"cancel:{one.run.id}"]


def test_cancelling_twice_is_fine_and_cancelling_a_finished_run_is_not(database: Database) -> None:
    one = claimed(database)
    end = RunEnded(one.run.id, one.run.claim, RunState.SUCCEEDED, NOON)
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, [end]))
    queued = enqueue(database)
    for _ in range(2):
        database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, queued.id))

    with pytest.raises(WrongState, match="succeeded"):
        database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, one.run.id))
    with pytest.raises(NotFound):
        database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, "nobody"))


def test_a_retry_keeps_what_succeeded_and_resets_the_rest(database: Database) -> None:
    one = claimed(database)
    ident, number = one.run.id, one.run.claim
    stored = {"files": ["a.arrow"]}
    database.write(
        Commit.REPORT,
        lambda tx: runs.apply(
            tx,
            [
                BlockStarted(ident, number, "load", 1, NOON),
                BlockEnded(ident, number, "load", BlockState.SUCCEEDED, 1, NOON, rows=3, checkpoint=stored),
                BlockStarted(ident, number, "clean", 1, NOON),
                BlockEnded(ident, number, "clean", BlockState.FAILED, 1, NOON, deaths=2, error="no"),
                BlockEnded(ident, number, "export", BlockState.UPSTREAM_FAILED, 0, NOON),
                RunEnded(ident, number, RunState.FAILED, NOON, error="clean failed"),
            ],
        ),
    )

    run = database.write(Commit.RETRY, lambda tx: runs.retry(tx, ident))

    assert (run.state, run.attempt, run.error, run.finished_at) == (RunState.QUEUED, 2, None, None)
    assert [(block.state, block.attempt, block.deaths) for block in run.blocks] == [
        (BlockState.SUCCEEDED, 1, 0),
        (BlockState.QUEUED, 0, 0),
        (BlockState.QUEUED, 0, 0),
    ]
    (again,) = claim(database, pin="the pipeline is gone")
    assert again.pin == one.pin
    assert again.run.blocks[0].checkpoint == stored


def test_only_failed_and_cancelled_runs_can_be_tried_again(database: Database) -> None:
    run = enqueue(database)

    with pytest.raises(WrongState, match="queued"):
        database.write(Commit.RETRY, lambda tx: runs.retry(tx, run.id))
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run.id))
    assert database.write(Commit.RETRY, lambda tx: runs.retry(tx, run.id)).state is RunState.QUEUED

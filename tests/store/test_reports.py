from __future__ import annotations

from datetime import timedelta

import pytest

from service.store import logs, runs
from service.store.reports import LogCap, apply
from service.store.session import Commit, Database
from service.store.values import (
    BlockEnded,
    BlockStarted,
    BlockState,
    LogLine,
    LogLines,
    Report,
    RunEnded,
    RunState,
)
from tests.store.builders import NOON, claim, claimed, get


def report(database: Database, *reports: Report) -> list[bool]:
    return database.write(Commit.REPORT, lambda tx: runs.apply(tx, reports))


def lines(ident: str, number: int, *texts: str, block: str | None = "load", level: str = "info") -> LogLines:
    return LogLines(ident, number, tuple(LogLine(0, NOON, level, text, block) for text in texts))


def test_a_whole_run_can_be_reported_in_one_batch(database: Database) -> None:
    one = claimed(database)
    ident, number = one.run.id, one.run.claim
    end = NOON + timedelta(seconds=2)

    answers = report(
        database,
        BlockStarted(ident, number, "load", 1, NOON),
        BlockEnded(ident, number, "load", BlockState.WAITING, 1, end, error="once", retry_at=end),
        BlockStarted(ident, number, "load", 2, end),
        BlockEnded(ident, number, "load", BlockState.SUCCEEDED, 2, end, rows=7, checkpoint={"n": 1}),
        BlockStarted(ident, number, "clean", 1, NOON),
        BlockEnded(ident, number, "clean", BlockState.SUCCEEDED, 1, end, volatile=True),
        BlockStarted(ident, number, "export", 1, NOON),
        BlockEnded(ident, number, "export", BlockState.FAILED, 1, end, deaths=1, error="bad\x00\ud800"),
        RunEnded(ident, number, RunState.FAILED, end, error="export failed"),
    )

    assert all(answers)
    run = get(database, ident)
    assert (run.state, run.error, run.finished_at) == (RunState.FAILED, "export failed", end)
    load, clean, export = run.blocks
    assert (load.state, load.attempt, load.rows, load.error) == (BlockState.SUCCEEDED, 2, 7, None)
    assert (load.started_at, load.finished_at, load.checkpoint) == (end, end, {"n": 1})
    assert clean.volatile
    assert (export.deaths, export.error) == (1, "bad\N{REPLACEMENT CHARACTER}?")


def test_a_lost_claim_changes_nothing(database: Database) -> None:
    paused = claimed(database, lease_seconds=-1)
    ident = paused.run.id
    database.write(Commit.RESCUE, runs.rescue)
    (holder,) = claim(database, engine_id="engine-2")
    before = get(database, ident)

    answers = report(
        database,
        BlockStarted(ident, paused.run.claim, "load", 1, NOON),
        lines(ident, paused.run.claim, "hello"),
        BlockEnded(ident, paused.run.claim, "load", BlockState.SUCCEEDED, 1, NOON),
        RunEnded(ident, paused.run.claim, RunState.SUCCEEDED, NOON),
        BlockStarted(ident, holder.run.claim, "clean", 1, NOON),
    )

    assert answers == [False, False, False, False, True]
    after = get(database, ident)
    assert (after.state, after.claim) == (before.state, holder.run.claim)
    assert [block.state for block in after.blocks] == [
        BlockState.QUEUED,
        BlockState.RUNNING,
        BlockState.QUEUED,
    ]
    with database.read() as connection:
        assert logs.read(connection, ident) == []


def test_nothing_is_taken_after_the_end_of_a_run(database: Database) -> None:
    one = claimed(database)
    ident, number = one.run.id, one.run.claim

    answers = report(
        database,
        RunEnded(ident, number, RunState.SUCCEEDED, NOON),
        BlockStarted(ident, number, "load", 1, NOON),
    )

    assert answers == [True, False]
    assert report(database, RunEnded(ident, number, RunState.FAILED, NOON)) == [False]
    assert report(database, RunEnded("nobody", 1, RunState.FAILED, NOON)) == [False]


def test_the_end_of_a_run_wakes_who_waits_for_it(database: Database) -> None:
    done, given_back = claimed(database), claimed(database)
    reports = [
        RunEnded(done.run.id, 1, RunState.SUCCEEDED, NOON),
        RunEnded(given_back.run.id, 1, RunState.QUEUED, NOON),
    ]

    topics = database.write(Commit.REPORT, lambda tx: (runs.apply(tx, reports), set(tx.topics)))[1]

    assert topics == {f"run:{done.run.id}", "queued"}


def test_no_block_is_left_running_when_its_run_is_over(database: Database) -> None:
    cancelled, failed = claimed(database), claimed(database)
    for one in (cancelled, failed):
        report(database, BlockStarted(one.run.id, 1, "load", 1, NOON))

    report(
        database,
        RunEnded(cancelled.run.id, 1, RunState.CANCELLED, NOON),
        RunEnded(failed.run.id, 1, RunState.FAILED, NOON, error="timeout"),
    )

    for one in (cancelled, failed):
        assert {block.state for block in get(database, one.run.id).blocks} == {BlockState.CANCELLED}


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.WAITING])
def test_a_run_that_leaves_its_engine_before_its_end_is_cancelled_if_that_was_asked_for(
    database: Database, state: RunState
) -> None:
    one = claimed(database)
    report(database, BlockStarted(one.run.id, 1, "load", 1, NOON))
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, one.run.id))

    report(database, RunEnded(one.run.id, 1, state, NOON, available_at=NOON + timedelta(days=1)))

    run = get(database, one.run.id)
    assert (run.state, run.available_at) == (RunState.CANCELLED, None)
    assert {block.state for block in run.blocks} == {BlockState.CANCELLED}
    assert claim(database) == []


def test_a_run_that_ended_before_it_could_be_cancelled_keeps_its_end(database: Database) -> None:
    one = claimed(database)
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, one.run.id))

    report(database, RunEnded(one.run.id, 1, RunState.SUCCEEDED, NOON))

    assert get(database, one.run.id).state is RunState.SUCCEEDED


def test_log_lines_are_numbered_and_filtered(database: Database) -> None:
    one = claimed(database)
    ident, number = one.run.id, one.run.claim
    report(database, lines(ident, number, "first", "100% sure", block="load"))
    report(database, lines(ident, number, "Second", block="clean", level="error"))

    def read(**filters: object) -> list[str]:
        with database.read() as connection:
            return [line.text for line in logs.read(connection, ident, **filters)]  # type: ignore[arg-type]

    with database.read() as connection:
        assert [line.seq for line in logs.read(connection, ident)] == [1, 2, 3]
    assert read() == ["first", "100% sure", "Second"]
    assert read(block="clean") == ["Second"]
    assert read(level="warning") == ["Second"]
    assert read(contains="SECOND") == ["Second"]
    assert read(contains="0%") == ["100% sure"]
    assert read(after_seq=1, limit=1) == ["100% sure"]


def test_the_log_of_a_run_ends_at_its_cap_with_a_notice(database: Database) -> None:
    one = claimed(database)
    ident, number = one.run.id, one.run.claim
    cap = LogCap(lines=3, bytes=1000)

    for _ in range(2):
        database.write(
            Commit.REPORT,
            lambda tx: apply(tx, [lines(ident, number, *(f"line {n}" for n in range(10)))], log_cap=cap),
        )

    with database.read() as connection:
        kept = [line.text for line in logs.read(connection, ident)]
    assert kept[:3] == ["line 0", "line 1", "line 2"]
    assert len(kept) == 4
    assert "cap" in kept[3]

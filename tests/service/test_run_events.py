"""Ends of runs become events, once each, for those who wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.outgoing.announcer import Announcer
from service.store import announcements, events, runs
from service.store.announcements import End
from service.store.session import Commit
from service.store.values import Outcome, Run, RunEnded, RunState, StoredEvent
from tests.parts.hooks import START, Hooks, running_hooks
from tests.parts.waiting import wait_until

HOOK = {"name": "hook", "type": "webhook", "verify": "none"}
CHAIN: list[dict[str, Any]] = [
    HOOK,
    {"name": "again", "type": "event", "event": "run.succeeded", "source": "run:etl"},
    {
        "name": "alarm",
        "type": "event",
        "event": "run.failed",
        "filter": "{{ event.data.attempt > 1 }}",
        "variables": {"why": "{{ event.data.error }}"},
    },
]


ON_BOTH = pytest.mark.parametrize("chain", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    is_postgres = getattr(request, "param", "sqlite") == "postgres"
    url = request.getfixturevalue("postgres_url") if is_postgres else None
    with running_hooks(tmp_path, CHAIN, database_url=url, max_hops=2) as hooks:
        yield hooks


def announce(hooks: Hooks) -> int:
    return Announcer(hooks.runtime, hooks.dispatcher).announce()


def run_events(hooks: Hooks) -> list[StoredEvent]:
    """Return the events of runs, oldest first."""
    with hooks.runtime.database.read() as connection:
        found = events.listing(connection, source="run:etl", limit=1000)
        return [event for one in reversed(found) if (event := events.get(connection, one.id))]


def due(hooks: Hooks) -> list[End]:
    with hooks.runtime.database.read() as connection:
        return announcements.due(connection, ["demo"], limit=1000)


def fail_one(hooks: Hooks) -> Run:
    claimed = hooks.claim_one()
    ended = RunEnded(claimed.run.id, claimed.run.claim, RunState.FAILED, START, error="no such table")
    hooks.runtime.database.write(Commit.REPORT, lambda tx: runs.apply(tx, [ended]))
    return claimed.run


@ON_BOTH
def test_the_end_of_a_run_is_an_event_that_starts_another_run(chain: Hooks) -> None:
    chain.accept({"variables": {"month": "2024-01"}})
    run = chain.finish_one()

    assert announce(chain) == 1
    assert announce(chain) == 0

    (event,) = run_events(chain)
    assert (event.type, event.key, event.subject) == ("run.succeeded", f"{run.id}/1", run.id)
    assert (event.hops, event.outcome, event.time) == (1, Outcome.RAN, START)
    assert event.data == {
        "run_id": run.id,
        "pipeline": "etl",
        "state": "succeeded",
        "trigger": "hook",
        "event_id": run.event_id,
        "execution_date": "2024-03-01T12:00:00Z",
        "variables": {"month": "2024-01"},
        "error": None,
        "attempt": 1,
        "started_at": event.data["started_at"],
        "finished_at": "2024-03-01T12:00:00Z",
        "seconds": event.data["seconds"],
    }
    follower = chain.all_runs()[-1]
    assert (follower.trigger, follower.event_id, follower.hops) == ("again", event.id, 1)
    assert follower.variables == {}


def test_a_circle_of_runs_ends_at_the_limit(chain: Hooks) -> None:
    chain.accept()
    for _ in range(3):
        chain.finish_one()
        assert announce(chain) == 1

    assert [event.outcome for event in run_events(chain)] == [Outcome.RAN, Outcome.RAN, Outcome.SKIPPED]
    assert "3 runs led to it" in str(run_events(chain)[-1].reason)
    assert [run.hops for run in chain.all_runs()] == [0, 1, 2]


def test_a_retried_run_that_ends_again_is_an_event_of_its_own(chain: Hooks) -> None:
    chain.accept()
    run = fail_one(chain)
    announce(chain)
    chain.runtime.database.write(Commit.RETRY, lambda tx: runs.retry(tx, run.id))
    assert announce(chain) == 0
    fail_one(chain)
    announce(chain)

    first, second = run_events(chain)
    assert (first.key, second.key) == (f"{run.id}/1", f"{run.id}/2")
    assert (first.outcome, second.outcome) == (Outcome.FILTERED, Outcome.RAN)
    assert chain.run(second.run_ids[0]).variables == {"why": "no such table"}


def test_ends_that_concern_nobody_are_only_marked(chain: Hooks) -> None:
    chain.accept()
    (run,) = chain.all_runs()
    chain.runtime.database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run.id))
    assert len(due(chain)) == 1

    assert announce(chain) == 0

    assert due(chain) == []
    assert run_events(chain) == []


@ON_BOTH
def test_a_run_that_goes_on_meanwhile_is_left_alone(chain: Hooks) -> None:
    chain.accept()
    run = fail_one(chain)
    ends = due(chain)
    chain.runtime.database.write(Commit.RETRY, lambda tx: runs.retry(tx, run.id))
    assert chain.runtime.database.write(Commit.ANNOUNCE, partial(announcements.mark, ends=ends)) == []

    fail_one(chain)

    assert [end.attempt for end in due(chain)] == [2]
    assert chain.runtime.database.write(Commit.ANNOUNCE, partial(announcements.mark, ends=ends)) == []


@ON_BOTH
def test_several_engines_announce_each_end_once(chain: Hooks) -> None:
    for number in range(20):
        chain.accept({"number": number})
    for _ in range(20):
        chain.finish_one()

    made: list[int] = []
    threads = [threading.Thread(target=lambda: made.append(announce(chain))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.append(announce(chain))  # what one had locked while the others looked

    assert sum(made) == 20
    assert len(run_events(chain)) == 20
    assert len(chain.all_runs()) == 40


def test_ends_are_found_by_their_index(chain: Hooks) -> None:
    with chain.runtime.database.read() as connection:
        values = {"projects": ["demo"], "most": 5}
        asked = announcements.DUE.params(values).compile(
            connection, compile_kwargs={"render_postcompile": True, "literal_binds": True}
        )
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}").all()

    assert "runs_unannounced" in str(plan)


def test_the_announcer_wakes_when_a_run_ends(chain: Hooks) -> None:
    announcer = Announcer(chain.runtime, chain.dispatcher)
    announcer.start()
    try:
        chain.accept()
        chain.finish_one()
        wait_until(lambda: run_events(chain), seconds=4, what="the event of the run")
    finally:
        announcer.stop()


def test_an_expectation_gets_its_events(tmp_path: Path) -> None:
    expect = {"event": "run.succeeded", "source": "run:etl"}
    expectation = {"name": "done", "type": "expectation", "expect": expect, "by": "07:00"}
    with running_hooks(tmp_path, [HOOK, expectation]) as hooks:
        hooks.accept()
        hooks.finish_one()

        assert announce(hooks) == 1
        assert [event.outcome for event in run_events(hooks)] == [Outcome.UNMATCHED]

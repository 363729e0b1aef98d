"""Runs that find no room: skipped, delayed, or in the place of older ones; whoever asks, and at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from service.store import held, runs, triggers
from service.store.ids import new_id
from service.store.session import Commit, Database
from service.store.values import (
    Limit,
    NewEvent,
    NewMatch,
    NewRun,
    Outcome,
    Recorded,
    RunEnded,
    RunState,
    Throttle,
    WhenFull,
)
from tests.parts.stores import opened_store
from tests.store.builders import NOON, claim, enqueue, get, new_event, new_run, recorded

SKIP = Limit("trigger:shop/taxi/hook", 1, WhenFull.SKIP)
NEWEST = Limit("trigger:shop/taxi/hook", 1, WhenFull.CANCEL_RUNNING)
WINDOW = 31 * 86400
TWO = Throttle("trigger:shop/taxi/hook", 2, WINDOW)


def event(key: str, *, limits: Sequence[Limit] = (), throttles: Sequence[Throttle] = ()) -> NewEvent:
    made = new_event(key)
    (match,) = made.matches
    assert match.run is not None
    run = replace(match.run, limits=tuple(limits), throttles=tuple(throttles))
    return replace(made, matches=(replace(match, run=run),))


def finish(database: Database, run_id: str) -> None:
    (one,) = claim(database, only=[run_id])
    ended = RunEnded(run_id, one.run.claim, RunState.SUCCEEDED, NOON)
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, [ended]))


def states(database: Database, answers: Sequence[Recorded]) -> list[RunState]:
    return [get(database, run_id).state for answer in answers for run_id in answer.run_ids]


def test_event_whose_limit_is_full_starts_nothing_and_says_why(database: Database) -> None:
    first, second = recorded(database, event("a", limits=[SKIP]), event("b", limits=[SKIP]))

    assert (first.outcome, len(first.run_ids)) == (Outcome.RAN, 1)
    assert (second.outcome, second.run_ids) == (Outcome.SKIPPED, ())
    assert second.reason == "the limit trigger:shop/taxi/hook is full: 1 runs are open of 1"
    finish(database, first.run_ids[0])
    (third,) = recorded(database, event("c", limits=[SKIP]))
    assert third.outcome is Outcome.RAN
    (again,) = recorded(database, event("b", limits=[SKIP]))
    assert (again.outcome, again.duplicate) == (Outcome.SKIPPED, True)  # a repeat is no second chance


def test_newer_run_takes_the_place_of_older_ones(database: Database) -> None:
    (first,) = recorded(database, event("a", limits=[NEWEST]))
    (running,) = claim(database)
    second, third = recorded(database, event("b", limits=[NEWEST]), event("c", limits=[NEWEST]))

    assert get(database, first.run_ids[0]).cancel_requested
    assert states(database, [first, second, third]) == [RunState.RUNNING, RunState.CANCELLED, RunState.QUEUED]
    assert get(database, second.run_ids[0]).error == "cancelled for a newer run of the same trigger"
    assert claim(database) == []  # the older one has not ended yet
    ended = RunEnded(running.run.id, running.run.claim, RunState.CANCELLED, NOON)
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, [ended]))
    assert [one.run.id for one in claim(database)] == list(third.run_ids)


def test_throttled_runs_wait_for_the_next_window_with_room(database: Database) -> None:
    answers = recorded(database, *(event(key, throttles=[TWO]) for key in "abcde"))
    made = [get(database, answer.run_ids[0]) for answer in answers]

    assert [run.state for run in made] == [RunState.QUEUED] * 2 + [RunState.WAITING] * 3
    starts = [run.available_at for run in made[2:] if run.available_at is not None]
    assert [start.timestamp() % WINDOW for start in starts] == [0, 0, 0]
    assert starts[0] == starts[1] == starts[2] - timedelta(seconds=WINDOW)
    assert len(claim(database, slots=9)) == 2


def test_run_that_one_throttle_delays_lets_others_pass_in_another(database: Database) -> None:
    # Of spans such that no window ends while the test runs, nor two of them together.
    day, month = lasting((86400, 82800), hours=1), lasting((WINDOW, WINDOW - 7 * 86400), hours=48)
    shared = Throttle("pipeline:shop/taxi", 2, day)
    slow, second, third = (Throttle(f"trigger:shop/taxi/{number}", 1, month) for number in range(3))

    first, late = recorded(database, *(event(key, throttles=[slow, shared]) for key in "ab"))
    passing, tomorrow = recorded(database, *(event(key, throttles=[shared]) for key in "cd"))

    assert states(database, [first, late, passing]) == [RunState.QUEUED, RunState.WAITING, RunState.QUEUED]
    starts, far = available_at(database, tomorrow), available_at(database, late)
    assert starts.timestamp() % day == 0
    assert far.timestamp() % month == 0
    assert starts < far
    # Far ahead there is one place left beside the one that is taken.
    recorded(database, event("e", throttles=[second]), event("f", throttles=[third]))
    beside, beyond = recorded(
        database, event("g", throttles=[second, shared]), event("h", throttles=[third, shared])
    )
    assert available_at(database, beside) == far
    assert available_at(database, beyond) == far + timedelta(seconds=day - far.timestamp() % day)


def lasting(spans: Sequence[int], *, hours: int) -> int:
    """Return a span whose window does not end within so many hours."""
    return next(span for span in spans if span - time.time() % span > hours * 3600)


def available_at(database: Database, answer: Recorded) -> datetime:
    moment = get(database, answer.run_ids[0]).available_at
    assert moment is not None
    return moment


def test_throttle_may_skip_instead_and_counts_runs_by_hand(database: Database) -> None:
    by_hand = replace(new_run(), throttles=(TWO,))
    assert enqueue(database, by_hand).state is RunState.QUEUED
    skipping = replace(TWO, when_full=WhenFull.SKIP)

    answers = recorded(database, *(event(key, throttles=[skipping]) for key in "abc"))

    assert [answer.outcome for answer in answers] == [Outcome.RAN, Outcome.SKIPPED, Outcome.SKIPPED]
    assert answers[1].reason == "the throttle trigger:shop/taxi/hook is used up: 2 in 31 days, 0:00:00"
    later = enqueue(database, replace(new_run(), throttles=(TWO,)))
    assert later.state is RunState.WAITING  # what a person asks for is late, and never skipped


def test_repeated_request_by_hand_takes_no_place_in_a_window(database: Database) -> None:
    def ask() -> tuple[RunState, bool]:
        new = replace(new_run(), throttles=(replace(TWO, maximum=1),))
        run, is_new = database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new, "the same"))
        return run.state, is_new

    assert [ask(), ask(), ask()] == [(RunState.QUEUED, True)] + [(RunState.QUEUED, False)] * 2
    (answer,) = recorded(database, event("a", throttles=[replace(TWO, maximum=2)]))
    assert states(database, [answer]) == [RunState.QUEUED]


def test_run_that_a_throttle_holds_back_stands_in_nobodys_way(database: Database) -> None:
    pipeline = Limit("pipeline:shop/taxi", 1)
    recorded(database, *(event(key, limits=[pipeline], throttles=[replace(TWO, maximum=1)]) for key in "ab"))
    finish(database, claim_of_the_first(database))
    by_hand = enqueue(database, new_run(limits=[pipeline]))

    assert [one.run.id for one in claim(database, slots=3)] == [by_hand.id]


def claim_of_the_first(database: Database) -> str:
    with database.read() as connection:
        (first,) = [run.id for run in runs.listing(connection) if run.state is RunState.QUEUED]
    return first


def test_due_run_has_the_place_of_its_priority_and_age(database: Database) -> None:
    due = NOON  # long ago
    low = replace(new_run(priority=-10), available_at=due)
    old = replace(new_run(), available_at=due)
    for run in (low, old):
        enqueue(database, run)
    live = enqueue(database, new_run())
    low_too = enqueue(database, new_run(priority=-10))

    order = [one.run.id for _ in range(4) for one in claim(database)]

    assert order == [old.id, live.id, low.id, low_too.id]


def test_held_events_meet_the_limits_when_they_are_released(database: Database) -> None:
    database.write(Commit.TRIGGER, lambda tx: triggers.pause(tx, "shop", "taxi", "hook"))
    recorded(database, *(new_event(key, outcome=Outcome.HELD) for key in "abc"))

    def decide(stored: object) -> NewMatch:
        run = NewRun(new_id(), "shop", "taxi", NOON, trigger="hook", event_id=stored.id, limits=(SKIP,))  # type: ignore[attr-defined]
        return NewMatch("taxi", "hook", Outcome.RAN, run=run)

    count = database.write(Commit.TRIGGER, lambda tx: held.release_held(tx, "shop", "taxi", "hook", decide))

    assert count == 3
    with database.read() as connection:
        assert len(runs.listing(connection)) == 1


def test_many_processes_never_let_in_more_than_the_limit(store_url: str, tmp_path: Path) -> None:
    """Each thread has a store of its own, as a process has; keys come in every order, and runs end."""
    keys = [f"trigger:shop/taxi/hook:{number}" for number in range(4)]

    def limits_of(number: int) -> list[Limit]:
        skip = Limit(keys[number % 4], 1, WhenFull.SKIP)
        newest = Limit(keys[(number + 1) % 4] + ":newest", 1, WhenFull.CANCEL_RUNNING)
        return [skip, newest] if number % 2 else [newest, skip]

    def deliver(worker: int) -> list[Recorded]:
        answers: list[Recorded] = []
        with opened_store(store_url, tmp_path / str(worker)) as own:
            for turn in range(6):
                numbers = range(worker, worker + 4)
                batch = [
                    event(f"{worker}-{turn}-{n}", limits=limits_of(n), throttles=[wide]) for n in numbers
                ]
                answers += recorded(own, *batch)
                for one in claim(own, slots=2, engine_id=f"engine-{worker}"):
                    end = RunEnded(one.run.id, one.run.claim, RunState.SUCCEEDED, NOON)
                    own.write(Commit.REPORT, lambda tx, end=end: runs.apply(tx, [end]))  # type: ignore[misc]
        return answers

    wide = Throttle("pipeline:shop/taxi", 1000, WINDOW)
    with ThreadPoolExecutor(4) as pool:
        answers = [answer for found in pool.map(deliver, range(4)) for answer in found]

    assert len(answers) == 96
    assert Counter(answer.outcome for answer in answers).keys() <= {Outcome.RAN, Outcome.SKIPPED}
    with opened_store(store_url, tmp_path / "end") as database:
        with database.read() as connection:
            open_runs = runs.listing(connection, runs.RunFilters(states=(RunState.QUEUED,)), limit=1000)
            windows = connection.exec_driver_sql("SELECT count FROM throttles").scalars().all()
            busy = connection.exec_driver_sql(
                "SELECT key, count(*) FROM run_limits GROUP BY key HAVING count(*) > 1"
            ).all()
        assert busy == []
        assert len(open_runs) <= 8
        assert windows == [sum(len(answer.run_ids) for answer in answers)]

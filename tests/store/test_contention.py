"""Many processes and threads at one store."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from service.store import database as database_module
from service.store import events, limits, runs
from service.store.prune import Retention, prune
from service.store.session import Commit, Database
from service.store.values import Limit, Recorded, RunEnded, RunState
from tests.parts.stores import opened_store
from tests.store.builders import NOON, claim, enqueue, new_event, new_run, record, recorded

Result = TypeVar("Result")

_CLAIMER = """
import json, sys
from pathlib import Path
from tests.parts.stores import opened_store
from tests.store.builders import claim
with opened_store(sys.argv[1], Path(sys.argv[2])) as database:
    print("ready", flush=True)
    sys.stdin.readline()
    taken = []
    while batch := claim(database, slots=3, engine_id=sys.argv[3]):
        taken += [one.run.id for one in batch]
print(json.dumps(taken))
"""


def _together(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Run `work(0..count-1)` on threads that begin at the same moment."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Result:
        barrier.wait(10)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_processes_that_claim_at_once_never_get_the_same_run(
    database: Database, store_url: str, tmp_path: Path
) -> None:
    made = {enqueue(database).id for _ in range(60)}
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", _CLAIMER, store_url, str(tmp_path), f"engine-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"

    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    taken = [ident for claimer in claimers for ident in json.loads(claimer.communicate(timeout=60)[0])]

    assert Counter(taken) == Counter(made)


def test_the_same_events_from_eight_threads_are_each_stored_once(
    database: Database, store_url: str, tmp_path: Path
) -> None:
    def deliver(number: int) -> list[Recorded]:
        # Every thread in another order: unsorted batches of these would deadlock on Postgres.
        keys = [f"key-{n}" for n in range(200)]
        keys = keys[number * 25 :] + keys[: number * 25]
        with opened_store(store_url, tmp_path) as own:
            batches = [keys[n : n + 20] for n in range(0, 200, 20)]
            return [answer for batch in batches for answer in recorded(own, *map(new_event, batch))]

    answers = [answer for part in _together(8, deliver) for answer in part]

    assert len(answers) == 1600
    assert len({answer.event_id for answer in answers}) == 200
    assert len({answer.run_ids for answer in answers}) == 200
    assert sum(not answer.duplicate for answer in answers) == 200
    with database.read() as connection:
        assert len(runs.listing(connection, limit=1000)) == 200
        assert len(events.listing(connection, limit=1000)) == 200


def test_a_repeat_waits_for_its_first_that_is_still_uncommitted(
    database: Database, store_url: str, tmp_path: Path
) -> None:
    is_written, may_commit = threading.Event(), threading.Event()
    answers: list[Recorded | Exception] = []

    def slowly() -> None:
        def work(tx: object) -> list[Recorded | Exception]:
            made = events.record(tx, [new_event("a")])  # type: ignore[arg-type]
            is_written.set()
            assert may_commit.wait(10)
            return made

        answers.extend(database.write(Commit.ACCEPT, work))

    first = threading.Thread(target=slowly)
    first.start()
    assert is_written.wait(10)
    with opened_store(store_url, tmp_path) as other, ThreadPoolExecutor(1) as pool:
        repeat = pool.submit(record, other, new_event("a"))
        assert not repeat.done()
        may_commit.set()
        (second,) = repeat.result(10)
    first.join(10)

    assert isinstance(second, Recorded)
    assert isinstance(answers[0], Recorded)
    assert second.duplicate
    assert (second.event_id, second.run_ids) == (answers[0].event_id, answers[0].run_ids)


def test_a_limit_is_never_exceeded_by_claimers_at_once(database: Database) -> None:
    two, one = Limit("two", 2), Limit("one", 1)
    for number in range(24):
        enqueue(database, new_run(limits=[two] if number % 2 else [two, one]))
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    guard = threading.Lock()
    done: list[str] = []
    wanted = {}
    with database.read() as connection:
        for run in runs.listing(connection, limit=100):
            wanted[run.id] = run
    names = {
        run_id: ["two"] if number % 2 else ["two", "one"] for number, run_id in enumerate(sorted(wanted))
    }

    def work(engine: int) -> None:
        while len(done) < 24:
            for taken in claim(database, slots=2, engine_id=f"engine-{engine}"):
                with guard:
                    running.update(names[taken.run.id])
                    for name in running:
                        most[name] = max(most[name], running[name])
                with guard:
                    running.subtract(names[taken.run.id])
                report = RunEnded(taken.run.id, taken.run.claim, RunState.SUCCEEDED, NOON)
                assert database.write(Commit.REPORT, partial(runs.apply, reports=[report])) == [True]
                done.append(taken.run.id)

    _together(4, work)

    assert sorted(done) == sorted(names)
    assert most["two"] <= 2
    assert most["one"] <= 1


def test_the_same_idempotency_key_at_once_makes_one_run(database: Database) -> None:
    def ask(_: int) -> tuple[str, bool]:
        run, created = database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new_run(), "once"))
        return run.id, created

    answers = _together(6, ask)

    assert len({ident for ident, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


def test_rows_that_are_locked_in_order_and_pruned_meanwhile_make_no_deadlock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres would find it, at the cost of a second for all who wait."""
    monkeypatch.setattr(database_module, "MAX_RACES", 1)
    names = [f"gate:{letter}" for letter in "abcdef"]

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(40):
            if number == 0:
                database.write(Commit.PRUNE, lambda tx: prune(tx, Retention(), set_aside=lambda _ids: None))
            else:
                wanted = chance.sample(names, 4)
                database.write(Commit.ACCEPT, lambda tx: limits.lock(tx, wanted))  # noqa: B023 - at once

    _together(4, work)


def test_engines_that_pass_over_blocked_runs_make_no_deadlock(
    database: Database, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MAX_RACES", 1)
    names = [f"key {number}" for number in range(12)]
    database.write(Commit.ENQUEUE, lambda tx: limits.lock(tx, names))
    chance = random.Random(1)
    made = [new_run(limits=[Limit(name, 1) for name in chance.sample(names, 2)]) for _ in range(100)]
    database.write(Commit.ENQUEUE, lambda tx: [runs.enqueue(tx, one) for one in made])
    ended: list[str] = []

    def work(number: int) -> None:
        with opened_store(store_url, tmp_path / str(number)) as own:
            for _ in range(1000):
                for one in claim(own, slots=3, engine_id=f"engine-{number}"):
                    end = RunEnded(one.run.id, one.run.claim, RunState.SUCCEEDED, NOON)
                    own.write(Commit.REPORT, lambda tx, end=end: runs.apply(tx, [end]))  # type: ignore[misc]
                    ended.append(one.run.id)
                if len(ended) == len(made):
                    break

    _together(3, work)

    assert sorted(ended) == [one.id for one in made]

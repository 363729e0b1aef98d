from __future__ import annotations

from collections.abc import Sequence

from service.store import runs
from service.store.session import Commit, Database
from service.store.values import ClaimedRun, Limit, Run, RunEnded, RunState
from tests.store.builders import NOON, claim, enqueue, get, new_run

ONE = Limit("pipeline:shop/taxi", 1)
TWO = Limit("pipeline:shop/taxi", 2)


def limited(database: Database, *limits: Limit, priority: int = 0) -> Run:
    return enqueue(database, new_run(limits=limits, priority=priority))


def ids(claims: Sequence[ClaimedRun]) -> list[str]:
    return [one.run.id for one in claims]


def end(database: Database, run: Run, state: RunState, **more: object) -> None:
    report = RunEnded(run.id, get(database, run.id).claim, state, NOON, **more)  # type: ignore[arg-type]
    assert database.write(Commit.REPORT, lambda tx: runs.apply(tx, [report])) == [True]


def test_no_more_runs_start_than_the_limit_allows(database: Database) -> None:
    made = [limited(database, TWO) for _ in range(5)]
    free = enqueue(database)

    taken = claim(database, slots=10)

    assert ids(taken) == [made[0].id, made[1].id, free.id]
    assert claim(database, slots=10) == []
    assert [get(database, run.id).state for run in made[2:]] == [RunState.WAITING] * 3


def test_each_run_that_ends_lets_the_next_one_in(database: Database) -> None:
    made = [limited(database, ONE) for _ in range(4)]
    order = []

    for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.SUCCEEDED):
        (one,) = claim(database, slots=10)
        order.append(one.run.id)
        end(database, one.run, state)

    assert order == [run.id for run in made]


def test_a_retry_that_waits_keeps_its_place_at_a_limit_of_one(database: Database) -> None:
    first, second = limited(database, ONE), limited(database, ONE)
    claim(database, slots=2)
    end(database, first, RunState.WAITING, available_at=NOON)  # long due

    assert ids(claim(database, slots=2)) == [first.id]
    end(database, first, RunState.SUCCEEDED)
    assert ids(claim(database, slots=2)) == [second.id]


def test_a_retry_that_waits_frees_its_place_at_larger_limits(database: Database) -> None:
    first, second, third = (limited(database, TWO) for _ in range(3))
    claim(database, slots=3)
    far = NOON.replace(year=2999)
    end(database, first, RunState.WAITING, available_at=far)

    assert ids(claim(database, slots=3)) == [third.id]
    assert get(database, second.id).state is RunState.RUNNING


def test_a_rescued_run_goes_before_those_that_came_after_it(database: Database) -> None:
    first, second = limited(database, ONE), limited(database, ONE)
    claim(database, slots=2, lease_seconds=-1)

    assert database.write(Commit.RESCUE, runs.rescue) == [first.id]

    assert ids(claim(database, slots=2)) == [first.id]
    end(database, first, RunState.SUCCEEDED)
    assert ids(claim(database, slots=2)) == [second.id]


def test_a_run_given_back_goes_before_those_that_came_after_it(database: Database) -> None:
    first, _ = limited(database, ONE), limited(database, ONE)
    claim(database, slots=2)

    end(database, first, RunState.QUEUED)

    assert ids(claim(database, slots=2)) == [first.id]


def test_cancelling_the_first_in_line_lets_the_next_one_in(database: Database) -> None:
    running, parked, last = (limited(database, ONE) for _ in range(3))
    claim(database, slots=3)
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, parked.id))

    end(database, running, RunState.SUCCEEDED)

    assert ids(claim(database, slots=3)) == [last.id]


def test_a_run_needs_all_its_limits(database: Database) -> None:
    customer_a, customer_b = Limit("customer:a", 1), Limit("customer:b", 1)
    a1, a2, b1 = (
        limited(database, TWO, customer_a),
        limited(database, TWO, customer_a),
        limited(database, TWO, customer_b),
    )

    assert ids(claim(database, slots=5)) == [a1.id, b1.id]
    end(database, b1, RunState.SUCCEEDED)
    assert claim(database, slots=5) == []
    end(database, a1, RunState.SUCCEEDED)
    assert ids(claim(database, slots=5)) == [a2.id]


def test_a_full_limit_does_not_hide_other_runs_behind_a_long_line(database: Database) -> None:
    for _ in range(30):
        limited(database, ONE)
    free = enqueue(database)

    taken = claim(database, slots=2)

    assert free.id in ids(taken)
    assert len(taken) == 2


def test_a_retried_run_needs_its_limits_again(database: Database) -> None:
    first = limited(database, ONE)
    claim(database)
    end(database, first, RunState.FAILED)
    second = limited(database, ONE)
    claim(database)

    database.write(Commit.RETRY, lambda tx: runs.retry(tx, first.id))

    assert claim(database, slots=5) == []
    end(database, second, RunState.SUCCEEDED)
    assert ids(claim(database, slots=5)) == [first.id]


def test_a_sweep_frees_who_was_left_parked(database: Database) -> None:
    first, second = limited(database, ONE), limited(database, ONE)
    claim(database, slots=2)
    forged = "UPDATE runs SET state = 'failed' WHERE id = '{}'"
    database.write(Commit.REPORT, lambda tx: tx.connection.exec_driver_sql(forged.format(first.id)))

    database.write(Commit.RESCUE, runs.rescue)

    assert get(database, second.id).state is RunState.QUEUED

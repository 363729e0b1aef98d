from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.clocks.catch_up import MAX_ROWS, MAX_RUNS, CatchUp, Policy, due_ticks
from service.clocks.timetable import Every, TimetableError

HOURLY = Every(timedelta(hours=1))
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


def hours_run(policy: Policy, *, since: datetime, now: datetime) -> tuple[list[int], list[int]]:
    """Return the hours that run and the hours that are missed."""
    ticks = due_ticks(HOURLY, CatchUp(policy), since=since, now=now)
    return (
        [tick.at.hour for tick in ticks if tick.missed is None],
        [tick.at.hour for tick in ticks if tick.missed is not None],
    )


@pytest.mark.parametrize("policy", list(Policy))
def test_tick_in_time_runs_under_every_policy(policy: Policy) -> None:
    run, missed = hours_run(policy, since=NOON - timedelta(hours=1), now=NOON + timedelta(seconds=2))

    assert (run, missed) == ([12], [])


@pytest.mark.parametrize(
    ("policy", "run", "missed"),
    [
        (Policy.NONE, [], [10, 11, 12]),
        (Policy.LATEST, [12], [10, 11]),
        (Policy.ALL, [10, 11, 12], []),
    ],
)
def test_missed_ticks_follow_the_policy(policy: Policy, run: list[int], missed: list[int]) -> None:
    assert hours_run(policy, since=NOON - timedelta(hours=3), now=NOON + timedelta(minutes=30)) == (
        run,
        missed,
    )


def test_nothing_due_is_nothing() -> None:
    assert due_ticks(HOURLY, CatchUp(Policy.ALL), since=NOON, now=NOON + timedelta(minutes=59)) == []


def test_catch_up_of_all_is_bounded() -> None:
    ticks = due_ticks(HOURLY, CatchUp(Policy.ALL), since=NOON - timedelta(hours=MAX_RUNS + 50), now=NOON)

    assert sum(tick.missed is None for tick in ticks) == MAX_RUNS
    assert [tick.missed is None for tick in ticks[-MAX_RUNS:]] == [True] * MAX_RUNS
    assert len(ticks) == MAX_RUNS + 50


def test_years_without_an_engine_make_a_bounded_number_of_rows() -> None:
    since = NOON - timedelta(days=3650)

    ticks = due_ticks(Every(timedelta(seconds=1)), CatchUp(), since=since, now=NOON)

    assert len(ticks) == MAX_ROWS + 1
    assert ticks[0].missed is not None
    assert since.isoformat() in ticks[0].missed
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)


def test_unknown_policy_is_explained() -> None:
    with pytest.raises(TimetableError, match="none, latest, all or"):
        CatchUp.parse("sometimes")


def test_latest_is_the_default() -> None:
    assert CatchUp.parse(None) == CatchUp(Policy.LATEST)


def test_bound_of_all_may_be_set() -> None:
    ticks = due_ticks(HOURLY, CatchUp.parse({"all": 3}), since=NOON - timedelta(hours=9), now=NOON)

    assert [tick.missed is None for tick in ticks] == [False] * 6 + [True] * 3
    assert "the newest 3" in (ticks[0].missed or "")

"""Schedules against a real store, in injected time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.clocks.clocked import Clocked
from service.clocks.ticking import MISSED, Ticker
from service.clocks.timetable import Every, TimetableError
from service.store.session import Commit
from service.store.triggers import pause
from service.store.values import Outcome
from tests.parts.clockwork import Build, Clockwork, Now, build_clockwork

HOURLY = "triggers: [{name: hourly, type: schedule, cron: '0 * * * *'}]"
NEW_YORK = "triggers: [{name: night, type: schedule, cron: '30 2 * * *', timezone: America/New_York}]"


@pytest.fixture(params=["sqlite", "postgres"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    built: list[Clockwork] = []

    def engine(triggers: str) -> Clockwork:
        now = built[0].now if built else Now()
        built.append(build_clockwork(tmp_path / "city", tmp_path / "home", url, triggers, now))
        return built[-1]

    yield engine
    for one in built:
        one.runtime.close()


def bring_up_to_date(engine: Clockwork, trigger: str = "hourly", counted_from: datetime | None = None) -> int:
    ticker = Ticker(engine.runtime.database, engine.dispatcher, engine.now)
    return ticker.bring_up_to_date(engine.trigger(trigger), counted_from=counted_from)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_due_tick_is_recorded_with_its_event_and_its_run(build: Build) -> None:
    engine = build(HOURLY)
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.now.moment = at("2026-01-10 12:00:01")

    assert bring_up_to_date(engine) == 1

    tick = engine.ticks("hourly")[-1]
    (event,) = engine.events()
    (run,) = engine.runs()
    assert (tick.tick_at, tick.outcome) == (at("2026-01-10 12:00"), Outcome.RAN)
    assert (tick.event_id, tick.run_id) == (event.id, run.id)
    assert (event.source, event.key) == ("schedule:taxi/hourly", "2026-01-10T12:00:00Z")
    assert run.execution_date == at("2026-01-10 12:00")
    assert (run.interval_start, run.interval_end) == (at("2026-01-10 12:00"), at("2026-01-10 13:00"))


def test_tick_is_recorded_once_however_often_it_is_asked_for(build: Build) -> None:
    engine = build(HOURLY)
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.now.moment = at("2026-01-10 12:00:01")

    assert [bring_up_to_date(engine) for _ in range(3)] == [1, 0, 0]
    assert len(engine.runs()) == 1


def test_two_engines_make_one_run_of_a_tick(build: Build) -> None:
    engines = [build(HOURLY), build(HOURLY)]
    engines[0].seed_tick("hourly", at("2026-01-10 11:00"))
    engines[0].now.moment = at("2026-01-10 17:00:01")
    together = threading.Barrier(2)
    recorded: list[int] = []

    def tick(engine: Clockwork) -> None:
        together.wait()
        recorded.append(bring_up_to_date(engine))

    threads = [threading.Thread(target=tick, args=[engine]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(recorded) == 6
    assert len(engines[0].ticks("hourly")) == 1 + 6
    assert len(engines[0].runs()) == 1  # catch_up: latest


def test_first_sight_makes_no_tick_of_the_past(build: Build) -> None:
    engine = build(HOURLY)
    engine.now.moment = datetime.now(UTC)

    assert bring_up_to_date(engine) == 0
    engine.now.advance(hours=1)
    assert bring_up_to_date(engine) == 1


def test_tick_missed_between_first_sight_and_restart_is_not_forgotten(build: Build) -> None:
    before = build(HOURLY)
    bring_up_to_date(before)
    before.now.advance(hours=3)

    after = build(HOURLY)
    bring_up_to_date(after)

    outcomes = [tick.outcome for tick in after.ticks("hourly")]
    assert outcomes == [MISSED, MISSED, Outcome.RAN]


@pytest.mark.parametrize(("policy", "runs", "missed"), [("none", 0, 5), ("latest", 1, 4), ("all", 5, 0)])
def test_restart_follows_the_policy_for_missed_ticks(
    build: Build, policy: str, runs: int, missed: int
) -> None:
    triggers = f"triggers: [{{name: hourly, type: schedule, every: 1h, catch_up: {policy}}}]"
    engine = build(triggers)
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.now.moment = at("2026-01-10 16:30")

    bring_up_to_date(engine)

    ticks = engine.ticks("hourly")[1:]
    assert len(engine.runs()) == runs
    assert sum(tick.outcome == MISSED for tick in ticks) == missed
    assert all(policy in (tick.reason or "") for tick in ticks if tick.outcome == MISSED)


def test_each_day_has_one_tick_when_the_clocks_change(build: Build) -> None:
    engine = build(NEW_YORK)
    engine.seed_tick("night", at("2026-03-06 07:30"))
    for hour in range(24 * 3):
        engine.now.moment = at("2026-03-06 08:00:01") + timedelta(hours=hour)
        bring_up_to_date(engine, "night")

    found = [tick.tick_at for tick in engine.ticks("night")[1:]]

    # There is no 02:30 on March 8: the tick comes at 03:00 summer time.
    assert found == [at("2026-03-07 07:30"), at("2026-03-08 07:00"), at("2026-03-09 06:30")]


def test_trigger_that_appeared_under_a_running_engine_has_no_earlier_ticks(build: Build) -> None:
    engine = build(HOURLY)
    engine.seed_tick("hourly", at("2026-01-01 00:00"))
    engine.now.moment = at("2026-01-10 16:30")

    assert bring_up_to_date(engine, counted_from=at("2026-01-10 16:30")) == 0
    engine.now.moment = at("2026-01-10 17:00:01")
    assert bring_up_to_date(engine, counted_from=at("2026-01-10 16:30")) == 1


def test_tick_of_a_paused_trigger_is_held(build: Build) -> None:
    engine = build(HOURLY)
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.runtime.database.write(Commit.TRIGGER, lambda tx: pause(tx, "city", "taxi", "hourly"))
    engine.now.moment = at("2026-01-10 12:00:01")

    bring_up_to_date(engine)

    assert engine.ticks("hourly")[-1].outcome == Outcome.HELD
    assert engine.runs() == []


def test_tick_that_is_dropped_while_paused_says_so(build: Build) -> None:
    engine = build("triggers: [{name: hourly, type: schedule, cron: '@hourly', while_paused: drop}]")
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.runtime.database.write(Commit.TRIGGER, lambda tx: pause(tx, "city", "taxi", "hourly"))
    engine.now.moment = at("2026-01-10 12:00:01")

    bring_up_to_date(engine)

    tick = engine.ticks("hourly")[-1]
    assert tick.outcome == Outcome.SKIPPED
    assert "paused" in (tick.reason or "")


def test_one_schedule_that_cannot_be_planned_stops_no_other(build: Build) -> None:
    engine = build(
        "triggers: [{name: hourly, type: schedule, every: 1h}, {name: bad, type: schedule, every: 1h}]"
    )
    for name in ("hourly", "bad"):
        engine.seed_tick(name, at("2026-01-10 11:00"))
    engine.now.moment = at("2026-01-10 14:00:01")
    broken = replace(
        engine.trigger("bad"), trigger=replace(engine.trigger("bad").trigger, spec={"catch_up": 1})
    )
    clocked = [Clocked(one, Every(timedelta(hours=1))) for one in (broken, engine.trigger("hourly"))]

    answers = Ticker(engine.runtime.database, engine.dispatcher, engine.now).bring_all_up_to_date(clocked)

    assert isinstance(answers[0], TimetableError)
    assert answers[1] == 3
    assert len(engine.ticks("bad")) == 1


def test_variables_of_the_tick_reach_the_run(build: Build) -> None:
    engine = build(
        "triggers: [{name: hourly, type: schedule, every: 1h, "
        "variables: {month: '{{ event.time.strftime(\"%Y-%m\") }}', fixed: 3}}]"
    )
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    engine.now.moment = at("2026-01-10 12:00:01")

    bring_up_to_date(engine)

    (run,) = engine.runs()
    assert dict(run.variables) == {"month": "2026-01", "fixed": 3}


def test_tick_that_finds_its_limit_full_is_skipped_and_says_so(build: Build) -> None:
    limited = "{name: hourly, type: schedule, cron: '0 * * * *', concurrency: {limit: 1, when_full: skip}}"
    engine = build(f"triggers: [{limited}]")
    engine.seed_tick("hourly", at("2026-01-10 11:00"))
    for hour in (12, 13):
        engine.now.moment = at(f"2026-01-10 {hour}:00:01")
        assert bring_up_to_date(engine) == 1

    ran, skipped = engine.ticks("hourly")[-2:]
    assert [run.id for run in engine.runs()] == [ran.run_id]
    assert (skipped.outcome, skipped.run_id) == (Outcome.SKIPPED, None)
    assert "the limit trigger:city/taxi/hourly is full" in str(skipped.reason)
    assert [event.outcome for event in engine.events()] == [Outcome.RAN, Outcome.SKIPPED]

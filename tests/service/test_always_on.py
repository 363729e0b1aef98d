"""Mage's `@once` and `@always_on`, against a real store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.clocks.ticking import Ticker
from service.store import runs
from service.store.session import Commit
from service.store.triggers import pause
from service.store.values import Outcome
from tests.parts.clockwork import Build, Clockwork, Now, build_clockwork

ONCE = "triggers: [{name: one, schedule_type: time, schedule_interval: '@once', status: active}]"
ALWAYS = "triggers: [{name: on, schedule_type: time, schedule_interval: '@always_on', status: active}]"


@pytest.fixture(params=["sqlite", "postgres"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    built: list[Clockwork] = []

    def engine(triggers: str) -> Clockwork:
        now = built[0].now if built else Now(datetime(2026, 1, 10, 12, tzinfo=UTC))
        built.append(build_clockwork(tmp_path / "city", tmp_path / "home", url, triggers, now))
        return built[-1]

    yield engine
    for one in built:
        one.runtime.close()


def tick(engine: Clockwork, name: str) -> int:
    return Ticker(engine.runtime.database, engine.dispatcher, engine.now).bring_up_to_date(
        engine.trigger(name)
    )


def end_run(engine: Clockwork) -> None:
    """Let the newest run of the engine be over."""
    newest = engine.runs()[-1]
    engine.runtime.database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, newest.id))


def test_once_is_one_tick_for_ever_and_from_any_engine(build: Build) -> None:
    engines = [build(ONCE), build(ONCE)]

    assert [tick(engine, "one") for engine in [*engines, *engines]] == [1, 0, 0, 0]
    engines[0].now.advance(days=400)
    assert [tick(engine, "one") for engine in engines] == [0, 0]
    (recorded,) = engines[0].ticks("one")
    (run,) = engines[0].runs()
    assert (recorded.tick_at, run.execution_date) == (datetime(2026, 1, 10, 12, tzinfo=UTC),) * 2


def test_schedule_that_becomes_once_runs_once_more(build: Build) -> None:
    engine = build("triggers: [{name: one, type: schedule, cron: '@hourly'}]")
    tick(engine, "one")
    engine.now.moment = datetime.now(UTC) + timedelta(hours=1)
    assert tick(engine, "one") == 1

    engine.rewrite("triggers: [{name: one, type: schedule, cron: '@once'}]")

    assert [tick(engine, "one"), tick(engine, "one")] == [1, 0]
    assert len(engine.runs()) == 2


def test_once_waits_for_its_start(build: Build) -> None:
    engine = build("triggers: [{name: one, type: schedule, cron: '@once', start: '2026-01-10T13:00:00Z'}]")

    assert tick(engine, "one") == 0
    engine.now.advance(hours=1)
    assert [tick(engine, "one"), tick(engine, "one")] == [1, 0]


def test_always_on_has_one_open_run_and_the_next_as_soon_as_it_ends(build: Build) -> None:
    engines = [build(ALWAYS), build(ALWAYS)]
    now = engines[0].now

    assert [tick(engine, "on") for engine in engines] == [1, 0]
    now.advance(hours=3)
    assert [tick(engine, "on") for engine in engines] == [0, 0]  # its run is open
    for _ in range(3):
        end_run(engines[0])
        now.advance(seconds=1)
        assert sorted(tick(engine, "on") for engine in engines) == [0, 1]

    assert len(engines[0].runs()) == 4
    assert len(engines[0].ticks("on")) == 4


def test_always_on_that_is_paused_holds_one_tick(build: Build) -> None:
    engine = build(ALWAYS)
    engine.runtime.database.write(Commit.TRIGGER, lambda tx: pause(tx, "city", "taxi", "on"))

    recorded = []
    for _ in range(5):
        recorded.append(tick(engine, "on"))
        engine.now.advance(minutes=5)

    assert sum(recorded) == 1
    assert [one.outcome for one in engine.ticks("on")] == [Outcome.HELD]


def test_always_on_that_starts_nothing_rests_before_it_tries_again(build: Build) -> None:
    engine = build("triggers: [{name: on, type: schedule, cron: '@always_on', filter: false}]")

    recorded = []
    for _ in range(120):
        recorded.append(tick(engine, "on"))
        engine.now.advance(seconds=1)

    assert sum(recorded) == 2

"""Expectations against a real store, in injected time: what came by a deadline, and what its lack starts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensors.event import Event
from service.clocks.ticking import Ticker
from service.store.session import Commit
from service.store.values import Outcome
from tests.parts.clockwork import Build, Clockwork, Now, build_clockwork

MORNING = """triggers:
- name: landed
  type: webhook
  verify: none
  filter: "{{ event.data.name != 'other' }}"
- name: on_time
  type: expectation
  expect: {event: object.finalized, source: 'gcs:lake'}
  by: "07:00"
  timezone: Europe/Berlin
  within: 24h
  count: 2
  size: 1kB
  variables: {missing: '{{ event.data.missing.count }}'}
- name: alert
  type: event
  event: expectation.missed
  source: expectation:taxi/on_time
"""
# 07:00 in Berlin on 15 January is 06:00 UTC.
DEADLINE = datetime(2026, 1, 15, 6, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Build]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    built: list[Clockwork] = []

    def engine(triggers: str) -> Clockwork:
        now = built[0].now if built else Now(DEADLINE)
        built.append(build_clockwork(tmp_path / "city", tmp_path / "home", url, triggers, now))
        return built[-1]

    yield engine
    for one in built:
        one.runtime.close()


def seen(engine: Clockwork, name: str = "on_time", *, last: datetime = DEADLINE - timedelta(days=1)) -> None:
    """Let the expectation have stood since long before, up to the deadline `last`."""
    engine.runtime.database.write(
        Commit.TRIGGER,
        lambda tx: tx.connection.exec_driver_sql(
            "INSERT INTO triggers (project, pipeline, name, token, created_at)"
            f" VALUES ('city', 'taxi', '{name}', '{name}', 0)"
        ),
    )
    engine.seed_tick(name, last)


def arrive(engine: Clockwork, at: datetime, key: str, *, own: str | None = None, **fields: Any) -> None:
    """Let an event arrive at a moment."""
    before, engine.now.moment = engine.now.moment, at
    data = {"name": key, "size": fields.pop("size", 600)}
    event = Event(
        **{"source": "gcs:lake", "type": "object.finalized", "time": at, "data": data, **fields}, key=key
    )
    concerned = [engine.trigger(own)] if own else []
    planned = engine.dispatcher.plan("city", event, concerned)
    engine.runtime.database.write(Commit.ACCEPT, lambda tx: engine.dispatcher.record_page(tx, [planned]))
    engine.now.moment = before


def judge(engine: Clockwork, at: datetime, name: str = "on_time") -> int:
    engine.now.moment = at
    return Ticker(engine.runtime.database, engine.dispatcher, engine.now).bring_up_to_date(
        engine.trigger(name)
    )


def test_expectation_that_is_met_leaves_its_counts(build: Build) -> None:
    engine = build(MORNING)
    seen(engine)
    arrive(engine, DEADLINE - timedelta(hours=3), "a")
    arrive(engine, DEADLINE, "b")  # the very last moment

    judge(engine, DEADLINE + timedelta(seconds=1))

    tick = engine.ticks("on_time")[-1]
    assert (tick.tick_at, tick.outcome, tick.event_id) == (DEADLINE, "met", None)
    assert "2 events of 1,200 bytes between 2026-01-14T06:00:00Z and" in (tick.reason or "")
    assert engine.runs() == []


def test_breach_is_an_event_that_starts_its_own_pipeline_and_those_that_listen(build: Build) -> None:
    engine = build(MORNING)
    seen(engine)
    arrive(engine, DEADLINE - timedelta(hours=25), "too early")
    arrive(engine, DEADLINE - timedelta(hours=1), "a")
    arrive(engine, DEADLINE + timedelta(seconds=1), "too late")
    arrive(engine, DEADLINE - timedelta(hours=1), "elsewhere", source="gcs:pond")

    judge(engine, DEADLINE + timedelta(seconds=2))

    breach = engine.events()[-1]
    assert (breach.type, breach.source) == ("expectation.missed", "expectation:taxi/on_time")
    assert (breach.key, breach.time) == ("2026-01-15T06:00:00Z", DEADLINE)
    assert breach.data["expected"] == {"count": 2, "size": 1000}
    assert breach.data["found"] == {"count": 1, "size": 600}
    assert breach.data["missing"] == {"count": 1, "size": 400}
    runs = {run.trigger: run for run in engine.runs()}
    assert runs.keys() == {"on_time", "alert"}
    assert runs["on_time"].variables == {"missing": 1}
    assert runs["on_time"].execution_date == runs["alert"].execution_date == DEADLINE
    tick = engine.ticks("on_time")[-1]
    assert (tick.outcome, tick.run_id) == (Outcome.RAN, runs["on_time"].id)


def test_any_engine_decides_the_same_and_once_however_late(build: Build) -> None:
    engines = [build(MORNING), build(MORNING)]
    seen(engines[0])
    arrive(engines[0], DEADLINE + timedelta(minutes=1), "late a")
    arrive(engines[0], DEADLINE + timedelta(minutes=1), "late b")

    # Nobody was there for two days: both deadlines are judged as of their moments.
    later = DEADLINE + timedelta(days=1, hours=5)
    assert [judge(engine, later) for engine in [*engines, *engines]] == [2, 0, 0, 0]

    assert [tick.outcome for tick in engines[0].ticks("on_time")[1:]] == [Outcome.RAN, "met"]
    assert len([event for event in engines[0].events() if event.type == "expectation.missed"]) == 1


def test_new_expectation_gives_no_false_alarm(build: Build) -> None:
    engine = build(MORNING)
    judge(engine, datetime.now(UTC))  # first sight
    first = engine.now.moment

    engine.now.moment = first + timedelta(days=2)
    judge(engine, engine.now.moment)

    outcomes = [tick.outcome for tick in engine.ticks("on_time")]
    assert outcomes == ["missed", Outcome.RAN]  # the window of the first began before anybody looked
    assert "before the expectation was there" in (engine.ticks("on_time")[0].reason or "")


def test_what_one_trigger_takes_can_be_expected(build: Build) -> None:
    engine = build(
        MORNING + "- {name: hook, type: expectation, expect: {trigger: taxi/landed}, every: 1h, count: 2}\n"
    )
    seen(engine, "hook", last=DEADLINE - timedelta(hours=1))
    arrive(engine, DEADLINE - timedelta(minutes=30), "mine", own="landed")
    arrive(engine, DEADLINE - timedelta(minutes=30), "other", own="landed")  # filtered
    arrive(engine, DEADLINE - timedelta(minutes=30), "not of the trigger")

    judge(engine, DEADLINE + timedelta(seconds=1), "hook")

    assert engine.events()[-1].data["found"] == {"count": 1}


def test_filter_decides_what_counts_and_tells_what_it_failed_on(build: Build) -> None:
    engine = build(
        MORNING + "- {name: big, type: expectation, every: 1h, "
        "expect: {source: 'gcs:lake', filter: '{{ event.data.size > 500 }}'}}\n"
    )
    seen(engine, "big", last=DEADLINE - timedelta(hours=1))
    arrive(engine, DEADLINE - timedelta(minutes=30), "small", size=10)
    arrive(engine, DEADLINE - timedelta(minutes=30), "odd", size="large")

    judge(engine, DEADLINE + timedelta(seconds=1), "big")

    tick = engine.ticks("big")[-1]
    assert tick.outcome == Outcome.RAN
    assert "0 events" in (tick.reason or "")
    assert "the filter failed on 1" in (tick.reason or "")


def test_what_was_there_at_first_sight_counts_by_its_own_time(build: Build) -> None:
    engine = build(MORNING)
    seen(engine)
    engine.now.moment = DEADLINE - timedelta(hours=1)
    for key, age in (("old", 100), ("new", 2), ("newer", 2)):
        event = Event(
            source="gcs:lake",
            key=key,
            type="object.finalized",
            time=DEADLINE - timedelta(hours=age),
            data={"size": 600},
        )
        planned = engine.dispatcher.plan_baseline("city", event, engine.trigger("landed"))
        engine.runtime.database.write(
            Commit.SENSOR, lambda tx, new=planned: engine.dispatcher.record_page(tx, [new])
        )

    judge(engine, DEADLINE + timedelta(seconds=1))

    assert "2 events of 1,200 bytes" in (engine.ticks("on_time")[-1].reason or "")

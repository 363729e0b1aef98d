"""Paused triggers, and events that come by sensors and clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sensors.event import Event
from service.matching.decisions import Interval
from service.matching.releasing import Releaser
from service.matching.triggers import CompiledTrigger
from service.store.session import Commit
from service.store.values import NewEvent, Outcome, Recorded
from tests.parts.hooks import START, Hooks, running_hooks
from tests.parts.waiting import wait_until

HOOKS: list[dict[str, Any]] = [
    {"name": "hook", "type": "webhook", "verify": "none", "filter": "{{ event.data.n != 2 }}"},
    {"name": "sleeping", "type": "webhook", "verify": "none", "paused": True},
    {
        "name": "files",
        "type": "sensor",
        "sensor": "files",
        "options": {"path": "in", "pattern": "{{ env_var('PATTERN', '*.csv') }}"},
        "filter": "{{ event.data.size > 0 }}",
        "variables": {"file": "{{ event.data.name }}"},
        "execution_date": "{{ event.time }}",
    },
    {"name": "all_files", "type": "sensor", "sensor": "files", "options": {"path": "in"}},
    {"name": "nightly", "type": "schedule", "cron": "0 5 * * *", "timezone": "Europe/Berlin"},
]


@pytest.fixture(params=["sqlite", "postgres"])
def hooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with running_hooks(tmp_path / "demo", HOOKS, database_url=url) as made:
        yield made


def trigger(hooks: Hooks, name: str) -> CompiledTrigger:
    return hooks.dispatcher.triggers("demo")["etl", name]


def record(hooks: Hooks, *planned: NewEvent) -> list[Recorded]:
    answers = hooks.runtime.database.write(
        Commit.SENSOR, lambda tx: hooks.dispatcher.record_page(tx, planned)
    )
    assert all(isinstance(answer, Recorded) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Recorded)]


def file_event(name: str = "a.csv", **data: Any) -> Event:
    return Event(
        source="files:in",
        key=name,
        type="file.created",
        time=START - timedelta(days=1),
        data={"name": name, "size": 3, **data},
    )


def test_paused_trigger_holds_events_and_lets_them_go_in_order(hooks: Hooks) -> None:
    hooks.pause()
    wait_until(lambda: hooks.post({"n": 0}).get_json()["outcome"] == "held", what="the pause is noticed")
    already = len(hooks.all_runs())
    held = [hooks.accept({"n": n}) for n in (1, 2, 3)]
    assert [(answer["outcome"], answer["run_ids"]) for answer in held] == [("held", [])] * 3
    assert hooks.event(held[0]["event_id"]).outcome is Outcome.HELD

    released = hooks.dispatcher.release("demo", "etl", "hook")

    assert released == 4
    made = [run.event_id for run in hooks.all_runs()][already:]
    assert made[1:] == [held[0]["event_id"], held[2]["event_id"]]
    events = [hooks.event(answer["event_id"]) for answer in held]
    assert [event.outcome for event in events] == [Outcome.RAN, Outcome.FILTERED, Outcome.RAN]
    assert [event.reason for event in events] == [None, "the filter is false", None]
    wait_until(lambda: hooks.post({"n": 9}).get_json()["outcome"] == "ran", what="the resume is noticed")
    assert hooks.dispatcher.release("demo", "etl", "hook") == 0


def test_repeat_of_a_held_delivery_gets_its_run_after_the_release(hooks: Hooks) -> None:
    hooks.pause()
    wait_until(lambda: hooks.post({"n": 0}).get_json()["outcome"] == "held", what="the pause is noticed")
    held = hooks.accept({"n": 1}, headers={"Idempotency-Key": "k"})

    hooks.dispatcher.release("demo", "etl", "hook")

    repeat = hooks.post({"n": 1}, headers={"Idempotency-Key": "k"}).get_json()
    assert repeat["event_id"] == held["event_id"]
    assert repeat["duplicate"] is True
    assert repeat["outcome"] == "ran"
    assert hooks.run(repeat["run_ids"][0]).event_id == held["event_id"]


def test_what_was_held_by_a_process_that_saw_the_resume_late_is_let_go(hooks: Hooks) -> None:
    moment = {"n": 1}
    hooks.pause()
    wait_until(lambda: hooks.post(moment).get_json()["outcome"] == "held", what="the pause is noticed")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Releaser, "_let_go", lambda *_: 0)
        hooks.dispatcher.release("demo", "etl", "hook")

    assert hooks.dispatcher.release_left_over() == 1
    assert hooks.dispatcher.release_left_over() == 0


def test_trigger_paused_in_its_file_holds_until_the_file_changes(hooks: Hooks) -> None:
    held = hooks.accept({}, path="/webhooks/etl/sleeping")
    assert held["outcome"] == "held"
    assert hooks.dispatcher.release_left_over() == 0

    hooks.rewrite([{"name": "sleeping", "type": "webhook", "verify": "none"}])

    assert hooks.dispatcher.release_left_over() == 1
    assert hooks.event(held["event_id"]).outcome is Outcome.RAN


def test_event_is_matched_to_every_trigger_it_concerns(hooks: Hooks) -> None:
    concerned = [trigger(hooks, "files"), trigger(hooks, "all_files")]
    full = hooks.dispatcher.plan("demo", file_event("a.csv"), concerned)
    empty = hooks.dispatcher.plan("demo", file_event("b.csv", size=0), concerned)

    first, second = record(hooks, full, empty)

    assert len(first.run_ids) == 2
    assert len(second.run_ids) == 1
    assert hooks.event(second.event_id).outcome is Outcome.RAN
    assert [match.outcome for match in hooks.event(second.event_id).matches] == [
        Outcome.FILTERED,
        Outcome.RAN,
    ]
    runs = {run.trigger: run for run in map(hooks.run, first.run_ids)}
    assert runs["files"].variables == {"file": "a.csv"}
    assert runs["files"].execution_date == START - timedelta(days=1)
    assert runs["all_files"].execution_date == START


def test_second_sighting_of_an_event_starts_nothing(hooks: Hooks) -> None:
    for _ in range(2):
        (answer,) = record(hooks, hooks.dispatcher.plan("demo", file_event(), [trigger(hooks, "all_files")]))

    assert answer.duplicate
    assert len(hooks.all_runs()) == 1


def test_event_that_nobody_takes_is_unmatched(hooks: Hooks) -> None:
    (answer,) = record(hooks, hooks.dispatcher.plan("demo", file_event(), []))

    assert hooks.event(answer.event_id).outcome is Outcome.UNMATCHED


def test_baseline_starts_nothing(hooks: Hooks) -> None:
    (answer,) = record(
        hooks, hooks.dispatcher.plan_baseline("demo", file_event(), trigger(hooks, "all_files"))
    )

    event = hooks.event(answer.event_id)
    assert (event.outcome, event.reason) == (Outcome.BASELINE, "it was there at first sight")
    assert hooks.all_runs() == []


@pytest.mark.parametrize("value", [float("nan"), b"bytes", "\x00", "\ud800", {1: 2}])
def test_sensor_data_that_json_cannot_hold_is_quarantined(hooks: Hooks, value: Any) -> None:
    (answer,) = record(
        hooks, hooks.dispatcher.plan("demo", file_event(extra=value), [trigger(hooks, "all_files")])
    )

    assert hooks.event(answer.event_id).outcome is Outcome.QUARANTINED


def test_tick_runs_for_its_own_moment(hooks: Hooks) -> None:
    tick = Event(
        source="schedule:etl/nightly", key="t", type="schedule.tick", time=START - timedelta(hours=7)
    )
    interval = Interval(tick.time, tick.time + timedelta(days=1))

    (answer,) = record(
        hooks, hooks.dispatcher.plan("demo", tick, [trigger(hooks, "nightly")], interval=interval)
    )

    run = hooks.run(answer.run_ids[0])
    assert run.execution_date == run.interval_start == tick.time
    assert run.interval_end == tick.time + timedelta(days=1)
    assert run.timezone == "Europe/Berlin"


def test_paused_sensor_keeps_its_events(hooks: Hooks) -> None:
    hooks.pause("all_files")
    concerned = [trigger(hooks, "all_files")]
    wait_until(
        lambda: hooks.dispatcher.plan("demo", file_event(), concerned).outcome is Outcome.HELD,
        what="the pause is noticed",
    )
    record(hooks, hooks.dispatcher.plan("demo", file_event(), concerned))

    assert hooks.dispatcher.release("demo", "etl", "all_files") == 1
    assert len(hooks.all_runs()) == 1

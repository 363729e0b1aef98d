"""Backfills: what a preview says happens, once, however many engines drive it and whatever dies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.backfills.driver import Driver
from service.backfills.preview import Preview
from service.backfills.request import BackfillError, Dates, Events, Order, Reprocess, Request
from service.backfills.slots import SlotError
from service.backfills.submitting import Backfills, NothingToRun, PreviewChanged
from service.errors import NotFound, WrongState
from service.store import backfill_slots, backfills, prune, runs
from service.store.backfills import Backfill, BackfillState, Place
from service.store.ids import new_id
from service.store.prune import Retention
from service.store.session import Commit
from service.store.values import NewRun, Outcome, Pin, Run, RunEnded, RunState
from tests.parts.hooks import Hooks, running_hooks
from tests.parts.waiting import wait_until

TRIGGERS: list[dict[str, Any]] = [
    {
        "name": "nightly",
        "type": "schedule",
        "cron": "0 5 * * *",
        "timezone": "Europe/Berlin",
        "variables": {"day": "{{ event.time }}", "kind": "nightly"},
        "filter": "{{ event.time.day != 3 }}",
    },
    {"name": "hook", "type": "webhook", "verify": "none", "variables": {"n": "{{ event.data.n }}"}},
]
PLACE = Place("demo", "etl")
FIVE_DAYS = Request(PLACE, Dates(date(2024, 1, 1), date(2024, 1, 5), "1d"))


@dataclass(frozen=True)
class Field:
    """A project with its backfills, and an engine's driver that works when it is told to."""

    hooks: Hooks
    backfills: Backfills
    driver: Driver

    def submit(self, request: Request = FIVE_DAYS, **changes: Any) -> Backfill:
        return self.backfills.submit(replace(request, **changes))

    def get(self, backfill: Backfill) -> Backfill:
        with self.hooks.runtime.database.read() as connection:
            found = backfills.get(connection, backfill.id)
        assert found is not None
        return found

    def states(self, backfill: Backfill) -> Mapping[str, int]:
        with self.hooks.runtime.database.read() as connection:
            return backfills.counts(connection, [backfill.id])[backfill.id]

    def slots(self, backfill: Backfill) -> list[backfill_slots.StoredSlot]:
        with self.hooks.runtime.database.read() as connection:
            return backfill_slots.page(connection, backfill.id, limit=100)

    def runs(self) -> list[Run]:
        return self.hooks.all_runs()

    def end(self, run: Run, state: RunState = RunState.SUCCEEDED) -> None:
        """Play an engine for one run."""
        database = self.hooks.runtime.database
        pin = Pin("p", {}, (("only", "custom"),))
        (claimed,) = database.write(
            Commit.CLAIM,
            lambda tx: runs.claim(
                tx,
                engine_id="e",
                slots=1,
                lease_seconds=60,
                projects=["demo"],
                pin=lambda _run: pin,
                only=[run.id],
            ),
        )
        at = datetime.now(UTC)
        ended = RunEnded(run.id, claimed.run.claim, state, at)
        database.write(Commit.REPORT, lambda tx: runs.apply(tx, [ended]))

    def enqueue(self, at: datetime, **fields: Any) -> Run:
        new = NewRun(new_id(), "demo", "etl", at, **fields)
        return self.hooks.runtime.database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new))[0]

    def open_runs(self) -> list[Run]:
        return [run for run in self.runs() if not run.state.is_final]

    def finish(self, backfill: Backfill) -> None:
        """Let runs begin and end until the backfill is over."""
        for _ in range(100):
            self.driver.drive()
            if self.get(backfill).state is not BackfillState.RUNNING:
                return
            for run in self.open_runs():
                self.end(run)
        raise AssertionError("the backfill does not end")

    def change(self, how: Any, backfill: Backfill) -> Backfill:
        changed = self.hooks.runtime.database.write(Commit.BACKFILL, lambda tx: how(tx, backfill.id))
        assert isinstance(changed, Backfill)
        return changed


@pytest.fixture(params=["sqlite", "postgres"])
def field(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Field]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with running_hooks(tmp_path / "demo", TRIGGERS, database_url=url) as hooks:
        yield _field(hooks)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Field]:
    """On SQLite only, where the store makes no difference."""
    with running_hooks(tmp_path / "demo", TRIGGERS) as hooks:
        yield _field(hooks)


def _field(hooks: Hooks) -> Field:
    return Field(hooks, Backfills(hooks.runtime, hooks.dispatcher), Driver(hooks.runtime, hooks.dispatcher))


def day(number: int, hour: int = 0) -> datetime:
    return datetime(2024, 1, number, hour, tzinfo=UTC)


def shown(preview: Preview) -> list[tuple[str, bool]]:
    return [(str(entry.status), entry.runs) for entry in preview.entries]


# Previews


def test_preview_tells_missing_failed_done_and_in_flight(field: Field) -> None:
    made = {number: field.enqueue(day(number)) for number in (1, 2, 3)}
    field.end(made[1])
    field.end(made[2], RunState.FAILED)

    shows = {mode: shown(field.backfills.preview(replace(FIVE_DAYS, reprocess=mode))) for mode in Reprocess}

    missing = [("missing", True)] * 2
    assert shows == {
        Reprocess.NONE: [("done", False), ("failed", False), ("in_flight", False), *missing],
        Reprocess.FAILED: [("done", False), ("failed", True), ("in_flight", False), *missing],
        Reprocess.ALL: [("done", True), ("failed", True), ("in_flight", False), *missing],
    }
    reasons = [entry.reason for entry in field.backfills.preview(FIVE_DAYS).entries]
    assert reasons == [
        f"run {made[1].id} succeeded; reprocess is none",
        f"run {made[2].id} failed; reprocess is none",
        f"run {made[3].id} is queued",
        "it has no run yet",
        "it has no run yet",
    ]


def test_newest_run_of_a_slot_counts_and_runs_of_some_blocks_do_not(light: Field) -> None:
    for state in (RunState.SUCCEEDED, RunState.FAILED):
        light.end(light.enqueue(day(1)), state)
    light.enqueue(day(2), selection=("only",))
    light.enqueue(day(3), interval_start=day(3), interval_end=day(3, 1))  # an hour of that day
    light.end(light.enqueue(day(4, 5), interval_start=day(3), interval_end=day(6)))  # three whole days

    statuses = [status for status, _ in shown(light.backfills.preview(FIVE_DAYS))]

    assert statuses == ["failed", "missing", "done", "done", "done"]


def test_with_a_trigger_only_its_runs_count_and_its_schedule_and_variables_are_taken(light: Field) -> None:
    light.end(light.enqueue(datetime(2024, 1, 1, 4, tzinfo=UTC), trigger="nightly"))
    light.end(light.enqueue(datetime(2024, 1, 2, 4, tzinfo=UTC)))
    request = Request(replace(PLACE, trigger="nightly"), Dates(date(2024, 1, 1), date(2024, 1, 4)))

    preview = light.backfills.preview(request)
    light.finish(light.submit(request, variables={"kind": "again"}))

    assert shown(preview) == [("done", False), ("missing", True), ("impossible", False), ("missing", True)]
    assert preview.entries[2].reason == "the trigger's filter is false"
    second, fourth = light.runs()[2:]
    assert second.variables == {"day": "2024-01-02T04:00:00Z", "kind": "again"}
    assert (second.trigger, second.timezone) == ("nightly", "Europe/Berlin")
    assert (fourth.execution_date, fourth.interval_start, fourth.interval_end) == (
        datetime(2024, 1, 4, 4, tzinfo=UTC),
        datetime(2024, 1, 4, 4, tzinfo=UTC),
        datetime(2024, 1, 5, 4, tzinfo=UTC),
    )


def test_limit_order_and_chunks_shape_the_list(light: Field) -> None:
    light.end(light.enqueue(day(3)))

    backward = light.backfills.preview(replace(FIVE_DAYS, order=Order.BACKWARD, limit=3))
    chunked = light.backfills.preview(replace(FIVE_DAYS, chunk=3))

    assert [entry.start.day for entry in backward.entries if entry.start and entry.runs] == [5, 4, 2]
    assert backward.entries[-1].reason == "it has no run yet; beyond the limit of 3"
    # What is done lies between: the interval of a run stands for all of its slots.
    assert [(entry.start.day, entry.chunk) for entry in chunked.entries if entry.start] == [
        (1, 1),
        (2, 1),
        (3, 0),
        (4, 2),
        (5, 2),
    ]
    assert chunked.runs == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"over": Dates(date(2024, 1, 1), date(2024, 1, 5))}, "say how long a slot is"),
        (
            {"place": Place("demo", "etl", "hook"), "over": Dates(date(2024, 1, 1), date(2024, 1, 5))},
            "no schedule",
        ),
        ({"place": Place("demo", "etl", "nope")}, "no enabled trigger 'nope'; it has: nightly, hook"),
        ({"over": Events()}, "needs the trigger"),
        ({"over": Events(), "place": Place("demo", "etl", "hook"), "chunk": 2}, "cannot be put into chunks"),
        ({"concurrency": 0}, "`concurrency` must be from 1"),
        ({"timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"over": Dates(date(2024, 1, 1), date(2025, 1, 1), "5m")}, "more than 10000 slots"),
    ],
)
def test_what_makes_no_backfill_is_said_before_anything_is_written(
    light: Field, changes: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises((BackfillError, SlotError), match=problem):
        light.submit(FIVE_DAYS, **changes)

    with light.hooks.runtime.database.read() as connection:
        assert backfills.listing(connection) == []


# Submitting


def test_only_what_was_previewed_is_submitted(field: Field) -> None:
    token = field.backfills.preview(FIVE_DAYS).token
    assert field.backfills.preview(FIVE_DAYS).token == token
    field.enqueue(day(2))

    with pytest.raises(PreviewChanged, match="4 run, 1 skip"):
        field.backfills.submit(FIVE_DAYS, token=token)

    new = field.backfills.submit(FIVE_DAYS, token=field.backfills.preview(FIVE_DAYS).token)
    assert field.states(new) == {"pending": 4, "skipped": 1}


def test_slots_that_wait_in_another_backfill_are_in_flight(field: Field) -> None:
    first = field.submit()

    preview = field.backfills.preview(replace(FIVE_DAYS, reprocess=Reprocess.ALL))

    assert shown(preview) == [("in_flight", False)] * 5
    assert preview.entries[0].reason == f"it waits in backfill {first.id}"
    with pytest.raises(NothingToRun, match="5 in_flight"):
        field.submit(reprocess=Reprocess.ALL)


def test_two_submitted_at_once_do_not_both_get_a_slot(field: Field) -> None:
    answers: list[object] = []

    def submit() -> None:
        try:
            answers.append(field.submit())
        except NothingToRun as nothing:
            answers.append(nothing)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(type(answer).__name__ for answer in answers) == {"Backfill": 1, "NothingToRun": 3}


# Driving


def test_every_slot_gets_one_run_behind_all_others(field: Field) -> None:
    new = field.submit(variables={"x": 1}, timezone="Europe/Berlin")
    field.finish(new)

    assert field.get(new).state is BackfillState.FINISHED
    assert field.states(new) == {"succeeded": 5}
    found = field.runs()
    assert [run.execution_date for run in found] == [
        datetime(2023, 12, 31, 23, tzinfo=UTC) + timedelta(days=number) for number in range(5)
    ]
    assert all(run.interval_end == run.execution_date + timedelta(days=1) for run in found)
    assert {(run.backfill_id, run.timezone, repr(run.variables)) for run in found} == {
        (new.id, "Europe/Berlin", "{'x': 1}")
    }
    live = field.enqueue(day(20))
    old = field.enqueue(day(21), priority=-10)
    assert field.hooks.claim_one().run.id == live.id
    assert field.hooks.claim_one().run.id == old.id


def test_no_more_runs_are_open_than_it_may_have(field: Field) -> None:
    new = field.submit(concurrency=2)
    field.driver.drive()
    field.driver.drive()
    first, second = field.open_runs()

    field.end(second)
    field.driver.drive()  # the window slides: it does not wait for the first one

    assert [run.execution_date for run in field.open_runs()] == [first.execution_date, day(3)]
    field.finish(new)
    assert field.states(new) == {"succeeded": 5}


def test_two_drivers_at_once_make_each_run_once(field: Field) -> None:
    new = field.submit(FIVE_DAYS, over=Dates(date(2024, 1, 1), date(2024, 2, 29), "1d"), concurrency=50)
    drivers = [Driver(field.hooks.runtime, field.hooks.dispatcher) for _ in range(3)]
    threads = [threading.Thread(target=driver.drive) for driver in drivers]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    field.driver.drive()

    dates = [run.execution_date for run in field.runs()]
    assert len(dates) == len(set(dates)) == 50
    assert field.states(new) == {"queued": 50, "pending": 10}


def test_chunk_is_one_run_that_is_told_its_slots(light: Field) -> None:
    new = light.submit(chunk=2, order=Order.BACKWARD)
    light.finish(new)

    newest, middle, oldest = light.runs()
    assert (newest.execution_date, newest.interval_start, newest.interval_end) == (day(4), day(4), day(6))
    assert newest.variables["slots"] == [
        {"start": "2024-01-04T00:00:00Z", "end": "2024-01-05T00:00:00Z"},
        {"start": "2024-01-05T00:00:00Z", "end": "2024-01-06T00:00:00Z"},
    ]
    assert (middle.interval_start, oldest.interval_start) == (day(2), day(1))
    assert [slot.run_id for slot in light.slots(new)] == [newest.id] * 2 + [middle.id] * 2 + [oldest.id]
    assert [status for status, _ in shown(light.backfills.preview(FIVE_DAYS))] == ["done"] * 5


def test_slot_that_got_another_run_meanwhile_is_left_to_it(field: Field) -> None:
    new = field.submit(chunk=5)
    live = field.enqueue(day(2))

    field.driver.drive()

    reasons = {slot.start: slot.reason for slot in field.slots(new) if slot.state == "skipped"}
    assert reasons == {day(2): f"meanwhile: run {live.id} is queued"}
    own = [run for run in field.runs() if run.backfill_id]
    assert [(run.interval_start, run.interval_end) for run in own] == [(day(1), day(2)), (day(3), day(6))]


def test_pause_begins_nothing_and_resume_goes_on(field: Field) -> None:
    new = field.submit(concurrency=1)
    field.driver.drive()
    assert field.change(backfills.pause, new).state is BackfillState.PAUSED

    field.end(field.open_runs()[0])
    field.driver.drive()
    assert field.states(new) == {"succeeded": 1, "pending": 4}

    field.change(backfills.resume, new)
    field.finish(new)
    assert field.states(new) == {"succeeded": 5}
    with pytest.raises(WrongState):
        field.change(backfills.pause, new)
    with pytest.raises(WrongState):
        field.change(backfills.resume, new)
    with pytest.raises(NotFound):
        field.change(backfills.pause, replace(new, id=new_id()))


def test_cancel_ends_what_waits_and_asks_what_runs(field: Field) -> None:
    new = field.submit(concurrency=3)
    field.driver.drive()
    running = field.hooks.claim_one().run
    field.end(field.open_runs()[1])

    cancelled = field.change(backfills.cancel, new)

    assert cancelled.state is BackfillState.CANCELLED
    assert cancelled.finished_at is not None
    assert field.hooks.run(running.id).cancel_requested
    assert field.states(new) == {"running": 1, "succeeded": 1, "cancelled": 3}
    field.driver.drive()
    assert len(field.runs()) == 3
    assert field.change(backfills.cancel, new) == cancelled
    with pytest.raises(WrongState):
        field.change(backfills.resume, new)


def test_it_stops_after_so_many_failures_and_may_be_resumed(field: Field) -> None:
    new = field.submit(concurrency=1, stop_after=2)
    for _ in range(2):
        field.driver.drive()
        field.end(field.open_runs()[0], RunState.FAILED)
    field.driver.drive()

    stopped = field.get(new)
    assert (stopped.state, stopped.reason) == (BackfillState.STOPPED, "2 failed")
    assert len(field.runs()) == 2

    field.change(backfills.resume, new)
    field.driver.drive()
    field.end(field.open_runs()[0], RunState.FAILED)
    field.driver.drive()
    assert field.get(new).state is BackfillState.RUNNING  # one failure of two, counted anew
    field.finish(new)
    assert field.states(new) == {"failed": 3, "succeeded": 2}


def test_limits_of_the_pipeline_hold_for_backfills(tmp_path: Path) -> None:
    limited = {"concurrency_config": {"pipeline_run_limit": 1}}
    with running_hooks(tmp_path / "demo", TRIGGERS, pipeline=limited) as hooks:
        field = _field(hooks)
        field.submit()
        field.driver.drive()
        hooks.claim_one()

        with pytest.raises(ValueError, match="not enough values"):
            hooks.claim_one()


def test_run_that_cannot_be_made_fails_its_slot_and_stops_no_other(light: Field) -> None:
    place = replace(PLACE, trigger="nightly")
    new = light.submit(place=place, concurrency=10)
    mended = {**TRIGGERS[0], "variables": {"x": "{{ 1 // (event.time.day - 2) }}"}}
    light.hooks.rewrite([mended, TRIGGERS[1]])

    light.finish(new)

    assert light.states(new) == {"succeeded": 3, "failed": 1, "skipped": 1}
    (failed,) = [slot for slot in light.slots(new) if slot.state == "failed"]
    assert "no run could be made of it" in str(failed.reason)


def test_backfill_of_a_trigger_that_is_gone_stops_with_the_reason(light: Field) -> None:
    new = light.submit(place=replace(PLACE, trigger="nightly"))
    light.hooks.rewrite([TRIGGERS[1]])

    light.driver.drive()

    stopped = light.get(new)
    assert stopped.state is BackfillState.STOPPED
    assert "no enabled trigger 'nightly'" in str(stopped.reason)


def test_engine_that_does_not_serve_the_project_leaves_it_alone(light: Field, tmp_path: Path) -> None:
    light.hooks.accept({"n": 1})
    light.end(light.open_runs()[0])
    made = [light.submit(), light.submit(over_events())]
    elsewhere = light.hooks.runtime.settings.database_url
    with running_hooks(
        tmp_path / "other", [], settings_of_project={"name": "other"}, database_url=elsewhere
    ) as other:
        Driver(other.runtime, other.dispatcher).drive()

    assert [light.states(one) for one in made] == [{"pending": 5}, {"pending": 1}]
    assert {light.get(one).state for one in made} == {BackfillState.RUNNING}


def test_inputs_are_checked_before_anything_is_submitted(tmp_path: Path) -> None:
    inputs = {"inputs": {"month": {"type": "date", "required": True}}}
    with running_hooks(tmp_path / "demo", TRIGGERS, pipeline=inputs) as hooks:
        field = _field(hooks)

        with pytest.raises(NothingToRun, match="5 impossible"):
            field.submit()
        assert field.submit(variables={"month": "2024-01-01"}).state is BackfillState.RUNNING


def test_driver_wakes_when_a_run_ends(field: Field) -> None:
    field.driver.start()
    try:
        new = field.submit(concurrency=1)
        for number in range(1, 6):
            run = wait_until(
                lambda number=number: next(
                    (run for run in field.open_runs() if run.execution_date == day(number)), None
                ),
                what=f"the run of day {number}",
            )
            field.end(run)
        wait_until(lambda: field.get(new).state is BackfillState.FINISHED, what="the end of the backfill")
    finally:
        field.driver.stop()


def test_ended_backfills_are_deleted_one_day_and_open_ones_are_not(field: Field) -> None:
    done = field.submit(limit=1)
    field.finish(done)
    opened = field.submit()
    none = Retention(runs=timedelta(days=-1), checkpoints=timedelta(days=365))

    field.hooks.runtime.database.write(
        Commit.PRUNE, lambda tx: prune.prune(tx, none, set_aside=lambda _ids: None)
    )

    with field.hooks.runtime.database.read() as connection:
        assert [one.id for one in backfills.listing(connection)] == [opened.id]
        assert backfill_slots.page(connection, done.id, limit=10) == []


# Over events


def over_events(**changes: Any) -> Request:
    return replace(Request(replace(PLACE, trigger="hook"), Events()), **changes)


def test_events_are_done_again_as_replays(field: Field) -> None:
    first = [field.hooks.accept({"n": n})["event_id"] for n in (1, 2)]
    for run in field.open_runs():
        field.end(run)
    field.hooks.rewrite([{**TRIGGERS[1], "variables": {"n": "{{ event.data.n * 10 }}"}}])

    new = field.submit(over_events())
    field.finish(new)

    assert field.states(new) == {"succeeded": 2}
    again = [run for run in field.runs() if run.backfill_id]
    assert [run.variables for run in again] == [{"n": 10}, {"n": 20}]
    events = [field.hooks.event(str(run.event_id)) for run in again]
    assert [event.replay_of for event in events] == first
    assert [event.key.endswith(f"#replay:{new.id}.{place}") for place, event in enumerate(events)] == [
        True,
        True,
    ]


def test_events_are_chosen_by_what_became_of_them(field: Field) -> None:
    field.hooks.rewrite([{**TRIGGERS[1], "filter": "{{ event.data.n > 1 }}"}])
    ids = [field.hooks.accept({"n": n})["event_id"] for n in (1, 2, 3)]
    field.hooks.accept({}, path="/webhooks/etl/hook")
    field.end(field.open_runs()[0])

    everything = field.backfills.preview(over_events())
    careful = field.backfills.preview(over_events(reprocess=Reprocess.NONE))
    filtered = field.backfills.preview(over_events(over=Events(outcome=Outcome.FILTERED)))
    newest = field.backfills.preview(over_events(over=Events(since=field.hooks.clock.now + timedelta(1))))

    assert [status for status, _ in shown(everything)] == ["missing", "done", "in_flight", "missing"]
    assert [runs_it for _, runs_it in shown(everything)] == [True, True, False, True]
    assert [runs_it for _, runs_it in shown(careful)] == [True, False, False, True]
    assert everything.entries[0].reason == "it started no run: filtered"
    assert [entry.event_id for entry in filtered.entries] == ids[:1]
    assert newest.entries == ()


def test_replay_counts_for_its_event_and_expired_events_are_told(light: Field) -> None:
    light.hooks.accept({"n": 1})
    light.end(light.open_runs()[0], RunState.FAILED)
    new = light.submit(over_events())
    assert shown(light.backfills.preview(over_events())) == [("in_flight", False)]
    light.finish(new)

    assert shown(light.backfills.preview(over_events(reprocess=Reprocess.FAILED))) == [("done", False)]
    none = Retention(payloads=timedelta(), events=timedelta(days=36500))
    light.hooks.runtime.database.write(
        Commit.PRUNE, lambda tx: prune.prune(tx, none, set_aside=lambda _ids: None)
    )
    (entry,) = light.backfills.preview(over_events()).entries
    assert (entry.status, entry.reason) == ("impossible", "its payload has expired")


def test_listener_that_is_new_gets_events_of_before(light: Field) -> None:
    light.hooks.accept({"n": 1})
    listener = {"name": "listener", "type": "event", "event": "webhook.received"}
    light.hooks.rewrite([*TRIGGERS, listener])

    new = light.submit(over_events(place=replace(PLACE, trigger="listener")))
    light.finish(new)

    assert light.states(new) == {"succeeded": 1}
    assert light.runs()[-1].trigger == "listener"


def test_event_that_starts_nothing_says_why(light: Field) -> None:
    light.hooks.accept({"n": 1})
    light.end(light.open_runs()[0])
    new = light.submit(over_events())
    light.hooks.rewrite([{**TRIGGERS[1], "filter": "{{ false }}"}])

    light.finish(new)

    (slot,) = light.slots(new)
    assert (slot.state, slot.reason) == ("skipped", "filtered: the filter is false")

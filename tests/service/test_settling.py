"""Events that settle: gathered by group, closed once into one run, lost by nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.clocks.settler import Settler
from service.doctor.findings import Health, Patient
from service.doctor.projects import held
from service.matching.settling import read_settle
from service.store import events, triggers
from service.store.session import Commit
from service.store.values import Outcome, RunState, StoredEvent
from tests.parts.hooks import START, Hooks, running_hooks
from tests.parts.waiting import wait_until

SETTLE = {"quiet": "60s", "max_wait": "15m", "group": "{{ event.data.day }}"}
HOOKS: list[dict[str, Any]] = [
    {
        "name": "hook",
        "type": "webhook",
        "verify": "none",
        "filter": "{{ event.data.name != 'no' }}",
        "settle": SETTLE,
        "variables": {
            "names": "{{ event.data.events | map(attribute='data.name') | join(' ') }}",
            "count": "{{ event.data.count }}",
            "day": "{{ event.data.group }}",
        },
        "execution_date": "{{ event.data.first_time }}",
    },
    {"name": "few", "type": "webhook", "verify": "none", "settle": {"quiet": "60s", "max_count": 2}},
    {
        "name": "wrong",
        "type": "webhook",
        "verify": "none",
        "settle": {"quiet": "60s"},
        "variables": {"x": "{{ event.data.name }}"},
    },
    {
        "name": "single",
        "type": "webhook",
        "verify": "none",
        "settle": {"quiet": "60s"},
        "concurrency": {"limit": 1, "when_full": "skip"},
    },
]


@pytest.fixture(params=["sqlite", "postgres"])
def hooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with running_hooks(tmp_path / "demo", HOOKS, database_url=url) as made:
        yield made


def settler(hooks: Hooks) -> Settler:
    return Settler(hooks.runtime.database, hooks.dispatcher, hooks.clock)


def post(hooks: Hooks, name: str, day: str = "monday", *, to: str = "hook") -> str:
    answer = hooks.accept({"name": name, "day": day}, path=f"/webhooks/etl/{to}")
    return str(answer["event_id"])


def batches(hooks: Hooks) -> list[StoredEvent]:
    with hooks.runtime.database.read() as connection:
        found = events.listing(connection, limit=1000)
    return [event for event in found if event.type == "batch.settled"][::-1]


def test_events_of_a_group_become_one_run_when_it_is_quiet(hooks: Hooks) -> None:
    answer = hooks.accept({"name": "a", "day": "monday"})
    assert (answer["outcome"], answer["reason"], answer["run_ids"]) == ("held", "settling", [])
    hooks.clock.advance(seconds=40)
    ids = [answer["event_id"], post(hooks, "b"), post(hooks, "c", "tuesday")]
    assert hooks.event(post(hooks, "no")).outcome is Outcome.FILTERED
    hooks.clock.advance(seconds=59)
    assert settler(hooks).close_due() == 0
    hooks.clock.advance(seconds=1)

    assert settler(hooks).close_due() == 2

    monday, tuesday = sorted(hooks.all_runs(), key=lambda run: run.variables["day"])
    assert monday.variables == {"names": "a b", "count": 2, "day": "monday"}
    assert monday.execution_date == START
    assert tuesday.variables["names"] == "c"
    for event_id, run in zip(ids, (monday, monday, tuesday), strict=True):
        event = hooks.event(event_id)
        assert (event.outcome, event.run_ids) == (Outcome.BATCHED, (run.id,))
        assert event.reason == f"batched into run {run.id}"
    batch, _ = batches(hooks)
    assert (batch.source, batch.outcome, batch.run_ids) == ("settle:etl/hook", Outcome.RAN, (monday.id,))
    assert [event["data"]["name"] for event in batch.data["events"]] == ["a", "b"]
    assert settler(hooks).close_due() == 0


def test_full_group_closes_at_once_and_what_is_beyond_waits_on(hooks: Hooks) -> None:
    for name in "abc":
        post(hooks, name, to="few")

    assert settler(hooks).close_due() == 1
    assert [len(batch.data["events"]) for batch in batches(hooks)] == [2]
    hooks.clock.advance(seconds=60)
    assert settler(hooks).close_due() == 1


def test_batch_that_cannot_be_mapped_takes_its_members_along(hooks: Hooks) -> None:
    event_id = post(hooks, "a", to="wrong")
    hooks.clock.advance(seconds=60)

    assert settler(hooks).close_due() == 1

    event, (batch,) = hooks.event(event_id), batches(hooks)
    assert event.outcome is batch.outcome is Outcome.MAPPING_FAILED
    assert event.reason == batch.reason
    assert event.reason is not None
    assert "there is no 'name'" in event.reason
    assert hooks.all_runs() == []


def test_batch_that_finds_no_room_is_skipped_with_its_members(hooks: Hooks) -> None:
    for name in "ab":
        event_id = post(hooks, name, to="single")
        hooks.clock.advance(seconds=60)
        assert settler(hooks).close_due() == 1

    assert len(hooks.all_runs()) == 1
    assert hooks.event(event_id).outcome is Outcome.SKIPPED
    assert "is full" in str(hooks.event(event_id).reason)


def test_several_engines_close_a_batch_once(hooks: Hooks) -> None:
    for number in range(20):
        post(hooks, "x", f"day {number % 5}")
    hooks.clock.advance(minutes=2)
    ready = threading.Barrier(4)

    def close() -> int:
        ready.wait(10)
        return settler(hooks).close_due()

    with ThreadPoolExecutor(4) as pool:
        closed = [future.result() for future in [pool.submit(close) for _ in range(4)]]
    settler(hooks).close_due()

    assert sum(closed) <= 5
    assert sorted(batch.data["count"] for batch in batches(hooks)) == [4] * 5
    assert len(hooks.all_runs()) == 5


def test_what_arrives_while_paused_settles_after_the_resume(hooks: Hooks) -> None:
    gathered = post(hooks, "before")
    hooks.pause()
    wait_until(
        lambda: hooks.post({"name": "no"}).get_json()["reason"] == "the trigger is paused", what="pause"
    )
    paused = [post(hooks, name) for name in "ab"]
    hooks.clock.advance(hours=1)
    assert settler(hooks).close_due() == 0
    assert {hooks.event(one).outcome for one in [gathered, *paused]} == {Outcome.HELD}

    assert hooks.dispatcher.release("demo", "etl", "hook") == 3
    hooks.dispatcher.release_left_over()
    assert {hooks.event(one).matches[0].settle_group for one in [gathered, *paused]} == {"monday"}
    wait_until(lambda: settler(hooks).close_due() == 1, what="the resume is noticed")
    (run,) = hooks.all_runs()
    assert run.variables["names"] == "before a b"


def test_events_go_on_alone_when_their_trigger_settles_no_more(hooks: Hooks) -> None:
    ids = [post(hooks, name) for name in "ab"]
    hooks.rewrite([{"name": "hook", "type": "webhook", "verify": "none"}])

    settler(hooks).close_due()
    hooks.dispatcher.release_left_over()

    assert [hooks.event(event_id).outcome for event_id in ids] == [Outcome.RAN] * 2
    assert {run.state for run in hooks.all_runs()} == {RunState.QUEUED}


def test_events_held_for_a_trigger_that_is_gone_wait_and_the_doctor_tells(hooks: Hooks) -> None:
    settling, paused = post(hooks, "a"), post(hooks, "b", to="few")
    hooks.pause("few")
    wait_until(
        lambda: hooks.post({}, path="/webhooks/etl/few").get_json()["reason"] == "the trigger is paused",
        what="the pause is noticed",
    )
    assert list(held(examined(hooks))) == []
    hooks.rewrite([{"name": "other", "type": "webhook", "verify": "none"}])
    hooks.clock.advance(hours=1)

    assert settler(hooks).close_due() == hooks.dispatcher.release_left_over() == 0

    assert {hooks.event(one).outcome for one in (settling, paused)} == {Outcome.HELD}
    found = list(held(examined(hooks)))
    assert [(one.subject, one.health) for one in found] == [
        ("etl/few", Health.PROBLEM),
        ("etl/hook", Health.PROBLEM),
    ]


def examined(hooks: Hooks) -> Patient:
    return Patient(hooks.runtime, tuple(hooks.dispatcher.triggers("demo").values()))


def test_engine_that_stops_closes_no_further_batch(hooks: Hooks) -> None:
    for day in "abcd":
        post(hooks, "x", day)
    hooks.clock.advance(minutes=2)
    stopping = settler(hooks)
    stopping.stop()

    assert stopping.close_due() == 0
    assert settler(hooks).close_due() == 4


def test_resume_may_let_only_the_latest_go_or_none(hooks: Hooks) -> None:
    keyed = {"name": "hook", "type": "webhook", "verify": "none"}
    hooks.rewrite([{**keyed, "concurrency": {"limit": 1, "key": "{{ event.data.day }}"}}])
    hooks.pause()
    wait_until(lambda: hooks.post({"day": "x"}).get_json()["outcome"] == "held", what="the pause is noticed")
    hooks.runtime.database.write(Commit.TRIGGER, lambda tx: triggers.resume(tx, "demo", "etl", "hook"))
    hooks.pause()
    ids = {name: post(hooks, name, day) for name, day in [("a", "mon"), ("b", "tue"), ("c", "mon")]}

    answer = hooks.client.post("/api/v1/triggers/etl/hook/resume?held=latest", json={})

    assert (answer.status_code, answer.get_json()["paused"], answer.get_json()["held"]) == (200, False, 0)
    outcomes = {name: hooks.event(event_id).outcome for name, event_id in ids.items()}
    assert outcomes == {"a": Outcome.SKIPPED, "b": Outcome.RAN, "c": Outcome.RAN}
    assert hooks.event(ids["a"]).reason == "a newer event was let go in its stead"
    hooks.pause()
    wait_until(lambda: hooks.post({"day": "x"}).get_json()["outcome"] == "held", what="the pause is noticed")
    before = len(hooks.all_runs())
    assert hooks.client.post("/api/v1/triggers/etl/hook/resume?held=drop", json={}).status_code == 200
    assert len(hooks.all_runs()) == before
    assert hooks.client.post("/api/v1/triggers/etl/hook/resume?held=some", json={}).status_code == 422


def test_paused_trigger_may_drop_what_arrives(hooks: Hooks) -> None:
    hooks.rewrite([{"name": "hook", "type": "webhook", "verify": "none", "while_paused": "drop"}])
    hooks.pause()

    wait_until(lambda: hooks.post({}).get_json()["outcome"] == "skipped", what="the pause is noticed")
    assert hooks.accept({})["reason"] == "the trigger is paused"


# --- any pattern of arrivals -----------------------------------------------------------------------

QUIET, LONGEST, MOST = 10, 35, 4
PATTERN = st.lists(st.tuples(st.integers(0, 14), st.sampled_from("ab")), min_size=1, max_size=25)


@dataclass
class Simulated:
    """A trigger that settles, without a store: members by group as the store would count them."""

    least: int
    now: datetime = START
    waiting: dict[str, list[datetime]] = field(default_factory=lambda: {"a": [], "b": []})
    closed: list[tuple[datetime, Sequence[datetime]]] = field(default_factory=list)

    def close(self, rule: Mapping[str, Any]) -> None:
        settle = read_settle(rule)
        assert settle is not None
        for name, times in self.waiting.items():
            while times and settle.complete_at(len(times), times[0], times[-1]) <= self.now:
                self.closed.append((self.now, times[: settle.max_count]))
                times = self.waiting[name] = times[settle.max_count :]


@given(PATTERN, st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_rule_of_closing_keeps_its_word(pattern: list[tuple[int, str]], least: int) -> None:
    rule = {"quiet": QUIET, "max_wait": LONGEST, "min_count": least, "max_count": MOST}
    simulated = Simulated(least)
    for gap, group in [*pattern, (0, "a")]:
        for _ in range(gap):
            simulated.now += timedelta(seconds=1)
            simulated.close(rule)
        simulated.waiting[group].append(simulated.now)
        simulated.close(rule)
    for _ in range(LONGEST):
        simulated.now += timedelta(seconds=1)
        simulated.close(rule)

    assert simulated.waiting == {"a": [], "b": []}
    assert sum(len(times) for _, times in simulated.closed) == len(pattern) + 1
    for at, times in simulated.closed:
        is_quiet = at == times[-1] + timedelta(seconds=QUIET) and len(times) >= least
        assert is_quiet or len(times) == MOST or at == times[0] + timedelta(seconds=LONGEST)
        assert at <= times[0] + timedelta(seconds=LONGEST)
        assert all((later - one).total_seconds() < QUIET or least > 1 for one, later in pairwise(times))


@given(PATTERN)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_of_any_pattern_ends_in_one_batch(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[tuple[int, str]]
) -> None:
    rule = {"quiet": QUIET, "max_wait": LONGEST, "max_count": MOST, "group": "{{ event.data.day }}"}
    hook = {"name": "hook", "type": "webhook", "verify": "none", "settle": rule}
    with running_hooks(tmp_path_factory.mktemp("pattern") / "demo", [hook]) as hooks:
        ids = []
        for gap, group in pattern:
            hooks.clock.advance(seconds=gap)
            settler(hooks).close_due()
            ids.append(post(hooks, "x", group))
        hooks.clock.advance(seconds=LONGEST)
        settler(hooks).close_due()

        members = [event["id"] for batch in batches(hooks) for event in batch.data["events"]]
        assert sorted(members) == sorted(ids)
        assert {hooks.event(event_id).outcome for event_id in ids} == {Outcome.BATCHED}
        assert len(hooks.all_runs()) == len(batches(hooks))
        for batch in batches(hooks):
            assert len({event["data"]["day"] for event in batch.data["events"]}) == 1
            assert batch.data["count"] <= MOST

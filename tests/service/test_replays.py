"""Stored events are done again, by the triggers as they are now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sensors.event import Event
from service.erasing import forget_event
from service.errors import NotFound, WrongState
from service.matching.replaying import Narrowed
from service.replays import Change, Replay, Replays, Wish
from service.store import prune
from service.store.event_reading import EventFilters
from service.store.ids import new_id
from service.store.prune import Retention
from service.store.session import Commit
from service.store.values import Outcome
from tests.parts.hooks import START, Hooks, running_hooks


def hook(**keys: Any) -> dict[str, Any]:
    return {"name": "hook", "type": "webhook", "verify": "none", **keys}


HOOKS = [
    hook(
        filter="{{ event.data.n > 0 }}",
        variables={"n": "{{ event.data.n }}", "key": "{{ event.key }}"},
    ),
    {"name": "secured", "type": "webhook"},
    {"name": "hourly", "type": "schedule", "every": "1h"},
]


@pytest.fixture(params=["sqlite", "postgres"])
def hooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    with running_hooks(tmp_path / "demo", HOOKS, database_url=url) as made:
        yield made


@pytest.fixture
def light(tmp_path: Path) -> Iterator[Hooks]:
    """On SQLite only, where the store makes no difference."""
    with running_hooks(tmp_path / "demo", HOOKS) as made:
        yield made


def replays(hooks: Hooks) -> Replays:
    return Replays(hooks.runtime.database, hooks.dispatcher)


def again(hooks: Hooks, *event_ids: str, only: Narrowed | None = None) -> list[Replay]:
    return replays(hooks).perform(Wish(event_ids, only=only or Narrowed()))


def one_again(hooks: Hooks, event_id: str) -> Replay:
    (done,) = again(hooks, event_id)
    assert done.error is None, done.error
    return done


def test_replay_is_a_new_event_with_a_run_of_its_own(hooks: Hooks) -> None:
    first = hooks.accept({"n": 1}, headers={"Idempotency-Key": "k"})
    hooks.clock.advance(hours=5)

    done = one_again(hooks, first["event_id"])

    event = hooks.event(str(done.replay_id))
    assert (event.replay_of, event.outcome, event.source) == (
        first["event_id"],
        Outcome.RAN,
        "webhook:etl/hook",
    )
    assert event.key.startswith("k#replay:")
    assert event.received_at == START + timedelta(hours=5)
    assert [delivery.road for delivery in event.deliveries] == ["replay"]
    run = hooks.run(event.run_ids[0])
    assert run.variables == {"n": 1, "key": "k"}
    assert run.execution_date == START  # as if it came again then
    assert hooks.event(first["event_id"]).run_ids == tuple(first["run_ids"])
    assert hooks.post({"n": 1}, headers={"Idempotency-Key": "k"}).get_json()["event_id"] == first["event_id"]


def test_every_replay_is_an_event_of_its_own(hooks: Hooks) -> None:
    first = hooks.accept({"n": 1})
    second = one_again(hooks, first["event_id"])

    third = one_again(hooks, first["event_id"])
    fourth = one_again(hooks, str(third.replay_id))

    events = [hooks.event(str(done.replay_id)) for done in (second, third, fourth)]
    assert [event.replay_of for event in events] == [first["event_id"], first["event_id"], third.replay_id]
    assert len({event.key for event in events}) == 3
    assert {event.original_key for event in events} == {hooks.event(first["event_id"]).key}
    assert len(hooks.all_runs()) == 4


def test_blocks_see_the_key_of_the_first_event(light: Hooks) -> None:
    first = light.accept({"n": 1}, headers={"Idempotency-Key": "k"})
    light.finish_one()
    done = one_again(light, first["event_id"])

    claimed = light.claim_one()

    assert claimed.run.event_id == done.replay_id
    assert claimed.event is not None
    assert claimed.event["key"] == "k"


def test_preview_shows_what_differs_from_last_time_and_writes_nothing(hooks: Hooks) -> None:
    first = hooks.accept({"n": 1, "size": 7}, headers={"Idempotency-Key": "k"})
    hooks.rewrite([hook(variables={"n": "{{ event.data.n + 1 }}", "size": "{{ event.data.size }}"})])

    (shown,) = replays(hooks).preview(Wish((first["event_id"],)))

    (start,) = shown.starts
    assert (start.outcome, start.variables, start.run_id) == (Outcome.RAN, {"n": 2, "size": 7}, None)
    assert start.changes == (
        Change("key", "k", None, is_there=False),
        Change("n", 1, 2),
        Change("size", None, 7, was_there=False),
    )
    assert shown.replay_id is None
    assert len(hooks.all_runs()) == 1


def test_event_that_was_filtered_runs_once_the_filter_is_mended(hooks: Hooks) -> None:
    first = hooks.accept({"n": 0})
    assert first["outcome"] == "filtered"
    hooks.rewrite([hook()])

    done = one_again(hooks, first["event_id"])

    assert done.outcome is Outcome.RAN
    assert not done.starts[0].has_last_time
    assert hooks.event(first["event_id"]).outcome is Outcome.FILTERED


def test_quarantined_event_is_read_anew_from_its_bytes(hooks: Hooks) -> None:
    first = hooks.accept(b"n=3", headers={"Content-Type": "application/json"})
    assert first["outcome"] == "quarantined"
    assert one_again(hooks, first["event_id"]).outcome is Outcome.QUARANTINED
    hooks.rewrite([hook(format="form", variables={"n": "{{ event.data.n }}"})])

    done = one_again(hooks, first["event_id"])

    assert done.outcome is Outcome.RAN
    assert hooks.event(str(done.replay_id)).data == {"n": "3"}
    assert hooks.raw(str(done.replay_id)) == b"n=3"


def test_event_without_its_payload_says_so_and_stops_no_other(light: Hooks) -> None:
    old = light.accept({"n": 1})
    light.finish_one()
    none = Retention(payloads=timedelta(), events=timedelta(days=36500))
    light.runtime.database.write(Commit.PRUNE, lambda tx: prune.prune(tx, none, set_aside=lambda _ids: None))
    new = light.accept({"n": 2})

    expired, done = again(light, old["event_id"], new["event_id"])

    assert expired.error == f"event {old['event_id']}: its payload has expired and cannot be read again"
    assert done.error is None
    assert done.replay_id is not None


def test_event_that_nobody_takes_any_more_says_so(light: Hooks) -> None:
    first = light.accept({"n": 1})

    (elsewhere,) = again(light, first["event_id"], only=Narrowed(trigger="other"))
    light.rewrite([{"name": "unlike", "type": "webhook"}])
    (gone,) = again(light, first["event_id"])

    assert "no enabled trigger named 'other' takes it now" in str(elsewhere.error)
    assert "no enabled trigger takes it now" in str(gone.error)


def test_listener_that_is_new_takes_a_replay(light: Hooks) -> None:
    first = light.accept({"n": 1})
    listener = {"name": "listener", "type": "event", "event": "webhook.received"}
    light.rewrite([hook(), listener])

    (done,) = again(light, first["event_id"], only=Narrowed(trigger="listener"))

    assert [start.trigger for start in done.starts] == ["listener"]
    assert done.outcome is Outcome.RAN


def test_paused_trigger_holds_a_replay(light: Hooks) -> None:
    first = light.accept({"n": 1})
    light.rewrite([hook(paused=True)])

    done = one_again(light, first["event_id"])

    assert done.outcome is Outcome.HELD
    light.rewrite([hook(variables={"key": "{{ event.key }}"})])
    assert light.dispatcher.release("demo", "etl", "hook") == 1
    run = light.run(light.event(str(done.replay_id)).run_ids[0])
    assert run.variables == {"key": light.event(first["event_id"]).key}


def test_tick_is_done_again_with_its_interval(light: Hooks) -> None:
    compiled = light.dispatcher.triggers("demo")["etl", "hourly"]
    tick = Event("schedule:etl/hourly", "t", "schedule.tick", START, data={"tick": "t"})
    planned = light.dispatcher.plan("demo", tick, [compiled])
    light.runtime.database.write(Commit.TICK, lambda tx: light.dispatcher.record_page(tx, [planned]))

    done = one_again(light, planned.id)

    run = light.run(str(done.starts[0].run_id))
    assert (run.execution_date, run.interval_start, run.interval_end) == (
        START,
        START,
        START + timedelta(hours=1),
    )


def test_filters_choose_first_events_and_leave_out_replays(hooks: Hooks) -> None:
    first = [hooks.accept({"n": n}) for n in (1, 0, 2, 3)]
    one_again(hooks, first[0]["event_id"])
    wish = Wish(filters=EventFilters(outcome=Outcome.RAN, trigger="hook"), limit=2)

    done = replays(hooks).perform(wish)

    assert [one.event_id for one in done] == [first[0]["event_id"], first[2]["event_id"]]


def test_unknown_event_is_not_found(light: Hooks) -> None:
    with pytest.raises(NotFound):
        again(light, new_id())


def test_forgotten_event_takes_its_replays_and_checkpoints_with_it(hooks: Hooks) -> None:
    first = hooks.accept({"n": 1}, headers={"Idempotency-Key": "k"})
    done = one_again(hooks, first["event_id"])
    second = one_again(hooks, str(done.replay_id))
    files = [hooks.runtime.settings.checkpoints / run.id / "x" for run in hooks.all_runs()]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    with pytest.raises(WrongState):
        forget_event(hooks.runtime, first["event_id"])
    assert all(file.exists() for file in files)
    for _ in files:
        hooks.finish_one()

    run_ids = forget_event(hooks.runtime, first["event_id"])

    assert len(run_ids) == 3
    assert not any(file.exists() for file in files)
    assert {repr(run.variables) for run in hooks.all_runs()} == {"{}"}
    for event_id in (first["event_id"], done.replay_id, second.replay_id):
        assert hooks.client.get(f"/api/v1/events/{event_id}").status_code == 404
    assert hooks.accept({"n": 1}, headers={"Idempotency-Key": "k"})["duplicate"] is False


# Over the API


def api(hooks: Hooks, path: str, body: Mapping[str, Any], status: int = 200) -> Any:
    answer = hooks.client.post(f"/api/v1/events/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.get_json(force=True)


def test_api_shows_and_does_a_replay(light: Hooks) -> None:
    first = light.accept({"n": 1})
    light.rewrite([hook(variables={"n": 5})])

    shown = api(light, f"{first['event_id']}/replay", {"dry_run": True})
    done = api(light, f"{first['event_id']}/replay", {})

    assert shown["replay_id"] is None
    assert {"name": "n", "before": 1, "now": 5, "was_there": True, "is_there": True} in shown["starts"][0][
        "changes"
    ]
    assert light.event(done["replay_id"]).replay_of == first["event_id"]
    assert light.run(done["starts"][0]["run_id"]).variables == {"n": 5}


def test_api_replays_by_filter(light: Hooks) -> None:
    events = [light.accept({"n": n})["event_id"] for n in (1, 2)]

    shown = api(light, "replay", {"since": START.isoformat(), "trigger": "hook", "dry_run": True})
    done = api(light, "replay", {"event_ids": events[1:]})

    assert [one["event_id"] for one in shown["items"]] == events
    assert [one["event_id"] for one in done["items"]] == events[1:]


def test_api_refuses_what_cannot_be_done(light: Hooks) -> None:
    first = light.accept({"n": 1})
    light.rewrite([{"name": "unlike", "type": "webhook"}])

    assert "no enabled trigger" in api(light, f"{first['event_id']}/replay", {}, 409)["detail"]
    assert "say which events" in api(light, "replay", {}, 422)["detail"]
    api(light, f"{new_id()}/replay", {}, 404)
    api(light, "x/replay", {}, 404)


def test_api_forgets_an_event_and_lists_refusals(light: Hooks) -> None:
    first = light.accept({"n": 0})
    light.post({}, path="/webhooks/etl/secured")
    light.refusals(1)

    assert api(light, f"{first['event_id']}/forget", {}) == {"event_id": first["event_id"], "run_ids": []}
    (refusal,) = light.client.get("/api/v1/events/refused").get_json()["items"]
    assert refusal["road"] == "webhook:etl/secured"
    api(light, f"{first['event_id']}/forget", {}, 404)

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from service.errors import NotFound, WrongState
from service.store import events, refused, runs, triggers
from service.store.refused import NewRefusal
from service.store.session import Commit, Database
from service.store.values import NewMatch, Outcome, Recorded, RunState, StoredEvent, Verdict
from tests.store.builders import NOON, enqueue, get, new_event, new_run, record, recorded


def stored(database: Database, event_id: str) -> StoredEvent:
    with database.read() as connection:
        event = events.get(connection, event_id)
    assert event is not None
    return event


def test_an_event_is_stored_with_its_match_its_run_and_its_delivery(database: Database) -> None:
    new = new_event("a")

    (answer,) = recorded(database, new)

    event = stored(database, new.id)
    assert answer == Recorded(new.id, Outcome.RAN, event.run_ids, duplicate=False)
    assert event.data == {"amount": 3}
    assert event.headers == {"content-type": "application/json"}
    assert event.time == NOON
    assert [(match.trigger, match.run_id) for match in event.matches] == [("hook", answer.run_ids[0])]
    assert [delivery.verdict for delivery in event.deliveries] == [Verdict.ACCEPTED]
    run = get(database, answer.run_ids[0])
    assert (run.state, run.event_id, run.trigger) == (RunState.QUEUED, new.id, "hook")
    assert run.variables == {"month": "2024-01"}


def test_a_repeat_gets_the_original_ids_and_makes_no_run(database: Database) -> None:
    (first,) = recorded(database, new_event("a"))

    (second,) = recorded(database, new_event("a"))

    assert second == replace(first, duplicate=True)
    event = stored(database, first.event_id)
    assert [delivery.verdict for delivery in event.deliveries] == [Verdict.ACCEPTED, Verdict.DUPLICATE]
    with database.read() as connection:
        assert len(runs.listing(connection)) == 1


def test_repeats_within_one_batch_share_one_event(database: Database) -> None:
    answers = recorded(database, new_event("b"), new_event("a"), new_event("b"), new_event("b"))

    assert len({answer.event_id for answer in answers}) == 2
    assert [answer.duplicate for answer in answers] == [False, False, True, True]
    assert {answers[0].run_ids, answers[2].run_ids, answers[3].run_ids} == {answers[0].run_ids}


def test_the_same_key_from_another_source_or_project_is_another_event(database: Database) -> None:
    new = new_event("a")
    others = [replace(new_event("a"), source="webhook:other"), replace(new_event("a"), project="lab")]

    answers = recorded(database, new, *others)

    assert not any(answer.duplicate for answer in answers)


def test_a_repeat_of_a_filtered_event_is_told_so_again(database: Database) -> None:
    new = replace(new_event("a", outcome=Outcome.FILTERED), reason="amount is too small")
    recorded(database, new)

    (second,) = recorded(database, new_event("a"))

    assert (second.outcome, second.reason, second.run_ids) == (Outcome.FILTERED, "amount is too small", ())


@pytest.mark.parametrize("poison", ["nul\x00", "surrogate\ud800"])
def test_one_event_that_cannot_be_stored_does_not_break_the_batch(database: Database, poison: str) -> None:
    batch = [new_event(f"good-{number}") for number in range(20)]
    batch[7] = new_event(poison)

    answers = record(database, *batch)

    assert isinstance(answers[7], ValueError)
    good = [answer for answer in answers if isinstance(answer, Recorded)]
    assert len(good) == 19
    assert all(stored(database, answer.event_id).run_ids == answer.run_ids for answer in good)


def test_nul_and_lone_surrogates_inside_variables_headers_and_reasons_are_kept_or_replaced(
    database: Database,
) -> None:
    new = new_event("a")
    run = replace(new_run(), variables={"text": "a\x00b\ud800"}, event_id=new.id, trigger="hook")
    new = replace(
        new,
        headers={"x": "\x00"},
        reason="why\x00\ud800",
        raw=b"\x00\xff",
        matches=(NewMatch("taxi", "hook", Outcome.RAN, run=run),),
    )

    recorded(database, new)

    event = stored(database, new.id)
    assert event.headers == {"x": "\x00"}
    assert event.reason == "why\N{REPLACEMENT CHARACTER}?"
    assert get(database, run.id).variables == {"text": "a\x00b\ud800"}
    with database.read() as connection:
        assert events.raw_of(connection, new.id) == b"\x00\xff"


def test_recording_runs_wakes_the_engines_and_a_repeat_does_not(database: Database) -> None:
    first = database.write(Commit.ACCEPT, lambda tx: (events.record(tx, [new_event("a")]), dict(tx.topics)))
    second = database.write(Commit.ACCEPT, lambda tx: (events.record(tx, [new_event("a")]), dict(tx.topics)))

    assert "queued" in first[1]
    assert not second[1]


def test_lists_are_newest_first_and_paged_by_id(database: Database) -> None:
    answers = recorded(database, *(new_event(f"k{number}") for number in range(5)))

    with database.read() as connection:
        page = events.listing(connection, limit=3)
        rest = events.listing(connection, limit=3, after_id=page[-1].id)

    assert [event.id for event in [*page, *rest]] == sorted((a.event_id for a in answers), reverse=True)


def test_lists_are_narrowed_by_every_filter(database: Database) -> None:
    ran = new_event("ran")
    late = replace(new_event("late", outcome=Outcome.FILTERED, at=NOON + timedelta(hours=1)), source="other")
    recorded(database, ran, late)

    def ids(**filters: object) -> list[str]:
        with database.read() as connection:
            return [event.id for event in events.listing(connection, **filters)]  # type: ignore[arg-type]

    assert ids(outcome=Outcome.RAN) == [ran.id]
    assert ids(outcome=Outcome.FILTERED) == [late.id]
    assert ids(source="other") == [late.id]
    assert ids(pipeline="taxi", trigger="hook") == [late.id, ran.id]
    assert ids(trigger="unknown") == []
    assert ids(since=NOON + timedelta(minutes=1)) == [late.id]
    assert ids(until=NOON + timedelta(minutes=1)) == [ran.id]
    assert ids(project="nobody") == []


def test_released_events_get_their_runs_once(database: Database) -> None:
    held = [new_event(f"h{number}", outcome=Outcome.HELD) for number in range(3)]
    recorded(database, *held)

    def decide(event: StoredEvent) -> NewMatch:
        if event.key == "h1":
            return NewMatch("taxi", "hook", Outcome.FILTERED, "too old")
        run = replace(new_run(), event_id=event.id, trigger="hook")
        return NewMatch("taxi", "hook", Outcome.RAN, run=run)

    def release() -> int:
        return database.write(
            Commit.TRIGGER, lambda tx: events.release_held(tx, "shop", "taxi", "hook", decide, limit=2)
        )

    with database.read() as connection:
        assert [event.key for event in events.held(connection, "shop", "taxi", "hook")] == ["h0", "h1", "h2"]
    assert [release(), release(), release()] == [2, 1, 0]
    outcomes = [stored(database, event.id).outcome for event in held]
    assert outcomes == [Outcome.RAN, Outcome.FILTERED, Outcome.RAN]
    with database.read() as connection:
        assert len(runs.listing(connection)) == 2


def test_a_forgotten_event_leaves_nothing_and_would_be_new_again(database: Database) -> None:
    (answer,) = recorded(database, new_event("a"))
    with pytest.raises(WrongState, match="queued"):
        database.write(Commit.FORGET, lambda tx: events.forget(tx, answer.event_id))
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, answer.run_ids[0]))

    forgotten = database.write(Commit.FORGET, lambda tx: events.forget(tx, answer.event_id))

    assert forgotten == answer.run_ids
    assert get(database, answer.run_ids[0]).variables == {}
    (again,) = recorded(database, new_event("a"))
    assert not again.duplicate
    with pytest.raises(NotFound):
        database.write(Commit.FORGET, lambda tx: events.forget(tx, answer.event_id))


def test_refusals_are_kept_in_a_bounded_ring(database: Database) -> None:
    new = [NewRefusal(NOON, "/webhooks/x", f"reason {number}", "10.0.0.1") for number in range(12)]

    database.write(Commit.REFUSE, lambda tx: refused.record(tx, new, ring_size=5))

    with database.read() as connection:
        kept = refused.listing(connection)
    assert [refusal.reason for _, refusal in kept] == [f"reason {number}" for number in (11, 10, 9, 8, 7)]


def test_the_queue_of_a_trigger_is_counted(database: Database) -> None:
    recorded(database, new_event("a"), new_event("b"))
    enqueue(database)

    with database.read() as connection:
        counted = triggers.queued_runs(connection, {("shop", "taxi", "hook"), ("shop", "taxi", "other")})

    assert counted == {("shop", "taxi", "hook"): 2, ("shop", "taxi", "other"): 0}

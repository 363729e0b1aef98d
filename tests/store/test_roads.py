"""An event that several roads bring, and that concerns several triggers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

from service.store import events, runs
from service.store.ids import new_id
from service.store.prune import Retention, prune
from service.store.session import Commit, Database
from service.store.sightings import Road, known_reports, sightings_of
from service.store.values import NewEvent, NewMatch, Outcome, StoredEvent
from tests.store.builders import NOON, end_open_runs, new_event, new_run, recorded

SOURCE, KEY = "gcs:lake", "gcs:lake/a.csv#1:finalize"
CENTURY = timedelta(days=36500)
FOR_EVER = Retention(payloads=CENTURY, events=CENTURY, deliveries=CENTURY, runs=CENTURY)


def news(road: str, *triggers: str, outcome: Outcome = Outcome.RAN) -> NewEvent:
    """News of one object, by a road, for triggers of the pipeline `taxi`."""
    event = new_event(KEY, outcome=Outcome.UNMATCHED)
    matches = tuple(
        NewMatch("taxi", name, outcome, run=replace(new_run(), trigger=name, event_id=event.id))
        if outcome is Outcome.RAN
        else NewMatch("taxi", name, outcome, "it was there at first sight")
        for name in triggers
    )
    return replace(
        event,
        source=SOURCE,
        road=road,
        shared=True,
        matches=matches,
        outcome=outcome if matches else event.outcome,
    )


def only_event(database: Database) -> StoredEvent:
    with database.read() as connection:
        (listed,) = events.listing(connection)
        event = events.get(connection, listed.id)
        assert event is not None
        assert sightings_of(connection, [event.id])[event.id] == len(event.deliveries)
        return event


def prune_all(database: Database, retention: Retention) -> None:
    end_open_runs(database)
    database.write(Commit.PRUNE, lambda tx: prune(tx, retention, set_aside=lambda ids: None))


def test_every_trigger_takes_the_event_once_in_whatever_order_the_roads_come(database: Database) -> None:
    reports = [news("gcs_object", "a"), news("pubsub:x", "a", "b"), news("webhook:y", "a", "b", "hook")]
    for order in permutations(reports):
        for place, report in enumerate(order):
            own = new_id()  # of this order
            fresh = [
                replace(match, run=replace(match.run, id=new_id(), event_id=own))
                for match in report.matches
                if match.run
            ]
            key = f"{KEY}{[reports.index(one) for one in order]}"
            recorded(database, replace(report, id=own, key=key, matches=tuple(fresh)))
            assert place < 3
    with database.read() as connection:
        found = events.listing(connection)

    assert len(found) == 6
    for event in found:
        assert sorted(match.trigger for match in event.matches) == ["a", "b", "hook"]
        assert len(set(event.run_ids)) == 3


def test_run_that_a_later_road_starts_belongs_to_the_first_event(database: Database) -> None:
    (first,) = recorded(database, news("gcs_object", "a"))

    (second,) = recorded(database, news("webhook:y", "a", "hook"))
    (third,) = recorded(database, news("webhook:y", "a", "hook"))

    assert (first.duplicate, second.duplicate, third.duplicate) == (False, False, True)
    assert second.event_id == first.event_id
    assert len(second.run_ids) == 2
    assert third.run_ids == second.run_ids
    with database.read() as connection:
        assert {run.event_id for run in runs.listing(connection)} == {first.event_id}


def test_baseline_of_one_trigger_stays_baseline_for_it_and_runs_for_another(database: Database) -> None:
    recorded(database, news("gcs_object", "a", outcome=Outcome.BASELINE))
    assert only_event(database).outcome is Outcome.BASELINE

    (answer,) = recorded(database, news("pubsub:x", "a", "b"))

    event = only_event(database)
    assert event.outcome is Outcome.RAN
    assert {match.trigger: match.outcome for match in event.matches} == {
        "a": Outcome.BASELINE,
        "b": Outcome.RAN,
    }
    assert len(answer.run_ids) == 1


def test_repeat_of_an_event_of_one_road_brings_nothing_new(database: Database) -> None:
    recorded(database, replace(news("gcs_object", "a"), shared=False))

    (answer,) = recorded(database, replace(news("gcs_object", "a", "b"), shared=False))

    assert answer.duplicate
    assert [match.trigger for match in only_event(database).matches] == ["a"]


def test_roads_that_report_at_once_start_each_run_once(database: Database) -> None:
    reports = [news(f"road{number}", "a", f"b{number % 2}") for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda report: recorded(database, report), reports))

    event = only_event(database)
    assert sorted(match.trigger for match in event.matches) == ["a", "b0", "b1"]
    with database.read() as connection:
        assert len(runs.listing(connection)) == 3


def test_roads_in_one_batch_start_each_run_once(database: Database) -> None:
    answers = recorded(database, news("one", "a"), news("two", "a", "b"), news("three", "b"))

    assert {answer.event_id for answer in answers} == {only_event(database).id}
    assert [answer.duplicate for answer in answers] == [False, False, True]
    assert len(only_event(database).run_ids) == 2


def test_reports_are_known_by_road_and_trigger(database: Database) -> None:
    recorded(database, news("gcs_object", "a"))
    report = (SOURCE, KEY)

    def known(trigger: str, road: str) -> bool:
        return report in known_reports(database, Road("shop", "taxi", trigger, road), {report})

    assert known("a", "gcs_object")
    assert not known("a", "pubsub:x")  # a sighting to be recorded
    assert not known("b", "gcs_object")  # a trigger that has not taken it


def test_event_that_retention_took_runs_for_no_trigger_again(database: Database) -> None:
    recorded(database, news("gcs_object", "a"))
    prune_all(database, replace(FOR_EVER, events=-CENTURY))

    (again,) = recorded(database, news("gcs_object", "a"))

    assert again.duplicate
    assert len(again.run_ids) == 1
    report = (SOURCE, KEY)
    assert known_reports(database, Road("shop", "taxi", "a", "gcs_object"), {report}) == {report}


def test_event_that_retention_took_comes_back_for_a_trigger_that_is_new(database: Database) -> None:
    (first,) = recorded(database, news("gcs_object", "a"))
    prune_all(database, replace(FOR_EVER, events=-CENTURY))

    (answer,) = recorded(database, news("gcs_object", "a", "b"))

    assert answer.event_id == first.event_id
    assert answer.run_ids[0] == first.run_ids[0]
    assert len(answer.run_ids) == 2
    assert [match.trigger for match in only_event(database).matches] == ["b"]
    prune_all(database, replace(FOR_EVER, events=-CENTURY))
    (last,) = recorded(database, news("gcs_object", "a", "b"))
    assert last.duplicate
    assert last.run_ids == answer.run_ids


def test_payload_that_retention_took_comes_back_for_a_trigger_that_is_new(database: Database) -> None:
    recorded(database, news("gcs_object", "a"))
    prune_all(database, replace(FOR_EVER, payloads=-CENTURY))
    assert only_event(database).data is None

    recorded(database, news("gcs_object", "a", "b"))

    assert only_event(database).data == {"amount": 3}
    assert only_event(database).time == NOON

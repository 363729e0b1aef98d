"""What triggers say of how long their events are kept counts more than the service's settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.store import events, prune
from service.store.prune import Retention
from service.store.session import Commit, Database
from service.store.values import NewEvent, NewMatch, Outcome, StoredEvent
from tests.store.builders import end_open_runs, new_event, recorded

DAY = timedelta(days=1)
SERVICE = Retention(payloads=30 * DAY, events=100 * DAY, deliveries=3650 * DAY)


def came(key: str, days_ago: int, **ends: int | None) -> NewEvent:
    """An event of so many days ago. `ends` are days of its life."""
    at = datetime.now(UTC) - days_ago * DAY
    return replace(
        new_event(key, at=at),
        **{name: None if days is None else at + days * DAY for name, days in ends.items()},
    )


def prune_all(database: Database) -> None:
    end_open_runs(database)

    def once() -> bool:
        return database.write(
            Commit.PRUNE, lambda tx: prune.prune(tx, SERVICE, set_aside=lambda _ids: None)
        ).is_done

    assert any(once() for _ in range(10))


def left(database: Database, event: NewEvent) -> StoredEvent | None:
    with database.read() as connection:
        return events.get(connection, event.id)


def test_payload_goes_when_the_trigger_says_so(database: Database) -> None:
    shorter, longer = came("a", 8, payload_until=7), came("b", 60, payload_until=90)
    plain, young = came("c", 60), came("d", 6, payload_until=7)
    recorded(database, shorter, longer, plain, young)

    prune_all(database)

    has_data = {
        event.key: left(database, event).data is not None for event in (shorter, longer, plain, young)
    }  # type: ignore[union-attr]
    assert has_data == {"a": False, "b": True, "c": False, "d": True}


def test_event_goes_when_the_trigger_says_so_and_its_key_stays(database: Database) -> None:
    shorter, longer, plain = came("a", 8, keep_until=7), came("b", 200, keep_until=365), came("c", 200)
    first, *_ = recorded(database, shorter, longer, plain)

    prune_all(database)

    assert [left(database, event) is None for event in (shorter, longer, plain)] == [True, False, True]
    (again,) = recorded(database, new_event("a"))
    assert again == replace(first, duplicate=True)


def test_held_event_is_kept_beyond_its_end(database: Database) -> None:
    held = replace(came("a", 8, payload_until=7, keep_until=7), outcome=Outcome.HELD)
    held = replace(held, matches=(NewMatch("taxi", "hook", Outcome.HELD),))
    recorded(database, held)

    prune_all(database)

    found = left(database, held)
    assert found is not None
    assert found.data is not None

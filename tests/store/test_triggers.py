from __future__ import annotations

from datetime import timedelta

import pytest

from service.errors import ClaimLost
from service.store import engines, sensors, ticks, triggers
from service.store.sensors import SensorClaim, SensorTick
from service.store.session import Commit, Database
from service.store.ticks import Tick
from tests.store.builders import NOON

HOOK = ("shop", "taxi", "hook")
FILES = ("shop", "taxi", "files")


def test_a_trigger_keeps_the_token_it_got_at_first_sight(database: Database) -> None:
    first = database.write(Commit.TRIGGER, lambda tx: triggers.see(tx, *HOOK))
    again = database.write(Commit.TRIGGER, lambda tx: triggers.token_of(tx, *HOOK))
    other = database.write(Commit.TRIGGER, lambda tx: triggers.see(tx, "shop", "taxi", "other"))

    assert again == first.token
    assert len(first.token) >= 43
    assert first.token != other.token
    assert first.number != other.number
    assert first.token not in repr(first)
    with database.read() as connection:
        assert triggers.find_by_token(connection, first.token) == first
        assert triggers.find_by_token(connection, "guess") is None
        assert triggers.states(connection, "shop") == [first, other]
        assert triggers.states(connection, "lab") == []


def test_pausing_and_resuming_are_told_once(database: Database) -> None:
    def paused() -> frozenset[tuple[str, str, str]]:
        with database.read() as connection:
            return triggers.paused(connection)

    def change(what: object) -> tuple[bool, list[str]]:
        return database.write(Commit.TRIGGER, lambda tx: (what(tx, *HOOK), list(tx.topics)))  # type: ignore[operator]

    assert change(triggers.pause) == (True, ["triggers"])
    assert change(triggers.pause) == (False, [])
    assert paused() == {HOOK}
    assert change(triggers.resume) == (True, ["triggers"])
    assert change(triggers.resume) == (False, [])
    assert paused() == frozenset()


def test_a_tick_is_recorded_by_the_first_engine_only(database: Database) -> None:
    def record(minutes: int) -> bool:
        tick = Tick(*HOOK, NOON + timedelta(minutes=minutes), "ran", run_id="r1")
        return database.write(Commit.TICK, lambda tx: ticks.record_tick(tx, tick))

    assert [record(0), record(0), record(15)] == [True, False, True]
    with database.read() as connection:
        assert ticks.last_tick(connection, *HOOK) == NOON + timedelta(minutes=15)
        assert ticks.last_tick(connection, *FILES) is None
        assert [tick.tick_at.minute for tick in ticks.listing(connection, *HOOK)] == [15, 0]


def claim_tick(
    database: Database, minutes: int, *, lease_seconds: float = 60, engine_id: str = "engine-1"
) -> SensorClaim | None:
    return database.write(
        Commit.SENSOR,
        lambda tx: sensors.claim_sensor(
            tx,
            *FILES,
            tick_at=NOON + timedelta(minutes=minutes),
            engine_id=engine_id,
            lease_seconds=lease_seconds,
        ),
    )


def held(claim: SensorClaim | None) -> SensorClaim:
    assert claim is not None
    return claim


def finish(database: Database, claim: SensorClaim, result: SensorTick, cursor: object) -> None:
    database.write(Commit.SENSOR, lambda tx: sensors.finish_tick(tx, claim, result, cursor))


def test_a_sensor_is_ticked_by_one_engine_and_once_for_each_moment(database: Database) -> None:
    first = held(claim_tick(database, 0))

    assert first.cursor is None
    assert claim_tick(database, 0, engine_id="engine-2") is None
    finish(database, first, SensorTick(seen=2, new=1, duplicate=1), {"after": "a"})
    assert claim_tick(database, 0) is None
    assert held(claim_tick(database, 1)).cursor == {"after": "a"}
    with database.read() as connection:
        (row,) = sensors.listing(connection, *FILES)
    assert row.result == SensorTick(seen=2, new=1, duplicate=1)
    assert (row.tick_at, row.cursor_before, row.cursor_after) == (NOON, None, {"after": "a"})


def test_an_engine_takes_up_its_own_tick_that_it_could_not_end(database: Database) -> None:
    cut_off = held(claim_tick(database, 0))

    again = held(claim_tick(database, 0))

    assert again.claim == cut_off.claim + 1
    with pytest.raises(ClaimLost):
        finish(database, cut_off, SensorTick(), None)


def test_a_tick_whose_engine_died_goes_on_from_its_last_page(database: Database) -> None:
    dead = held(claim_tick(database, 0, lease_seconds=-1))
    database.write(Commit.SENSOR, lambda tx: sensors.commit_page(tx, dead, {"after": "page 1"}))

    heir = held(claim_tick(database, 0))

    assert heir.cursor == {"after": "page 1"}
    with pytest.raises(ClaimLost):
        database.write(Commit.SENSOR, lambda tx: sensors.commit_page(tx, dead, {"after": "page 2"}))
    with pytest.raises(ClaimLost):
        finish(database, dead, SensorTick(), {"after": "page 2"})
    with database.read() as connection:
        assert sensors.state_of(connection, *FILES).cursor == {"after": "page 1"}


def test_engines_show_that_they_live(database: Database) -> None:
    for _ in range(2):
        database.write(Commit.ENGINE, lambda tx: engines.beat(tx, "engine-1", slots=2, version="1.0"))
    database.write(Commit.ENGINE, lambda tx: engines.beat(tx, "engine-2"))

    with database.read() as connection:
        known = engines.listing(connection)
        now = known[0].beat_at
        soon, later = now + timedelta(seconds=1), now + timedelta(hours=1)
        assert len(engines.alive(connection, now=soon, within=timedelta(seconds=15))) == 2
        assert engines.alive(connection, now=later, within=timedelta(seconds=15)) == []
    assert {engine.id for engine in known} == {"engine-1", "engine-2"}
    database.write(Commit.ENGINE, lambda tx: engines.leave(tx, "engine-2"))
    with database.read() as connection:
        assert [engine.id for engine in engines.listing(connection)] == ["engine-1"]

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import func, select

from service.store import events, logs, prune, runs, sensors, ticks
from service.store.prune import Pruned, Retention
from service.store.sensors import SensorTick
from service.store.session import Commit, Database
from service.store.tables import deliveries, limits, pins
from service.store.ticks import Tick
from service.store.values import (
    BlockEnded,
    BlockState,
    Limit,
    LogLine,
    LogLines,
    NewEvent,
    NewMatch,
    Outcome,
    Report,
    RunEnded,
    RunState,
)
from tests.store.builders import (
    NOON,
    claim,
    claimed,
    end_open_runs,
    enqueue,
    get,
    new_event,
    new_run,
    recorded,
)

NEVER = timedelta(days=36500)
KEEP_ALL = Retention(NEVER, NEVER, NEVER, NEVER, NEVER, NEVER)


def pruned(database: Database, retention: Retention, *, batch: int = 100) -> Pruned:
    return database.write(
        Commit.PRUNE, lambda tx: prune.prune(tx, retention, set_aside=lambda run_ids: None, batch=batch)
    )


def finished(database: Database) -> str:
    """A run that is over, with a checkpoint and two log lines."""
    one = claimed(database)
    ident, number = one.run.id, one.run.claim
    reports: list[Report] = [
        BlockEnded(ident, number, "load", BlockState.SUCCEEDED, 1, NOON, checkpoint={"n": 1}),
        LogLines(ident, number, (LogLine(0, NOON, "info", "a"), LogLine(0, NOON, "info", "b"))),
        RunEnded(ident, number, RunState.FAILED, NOON),
    ]
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, reports))
    return ident


def test_nothing_is_done_while_nothing_is_old(database: Database) -> None:
    recorded(database, new_event("a"))
    finished(database)

    assert pruned(database, KEEP_ALL).is_done


def test_an_expired_payload_leaves_the_event(database: Database) -> None:
    old, held = new_event("old"), new_event("held", outcome=Outcome.HELD)
    recorded(database, old, held)
    end_open_runs(database)

    assert pruned(database, replace(KEEP_ALL, payloads=timedelta())).rows == 1

    with database.read() as connection:
        emptied, kept = events.get(connection, old.id), events.get(connection, held.id)
    assert emptied is not None
    assert kept is not None
    assert (emptied.data, emptied.headers, emptied.outcome) == (None, {}, Outcome.RAN)
    assert kept.data == {"amount": 3}


def test_a_repeat_of_a_deleted_event_still_gets_the_first_answer(database: Database) -> None:
    (first,) = recorded(database, new_event("a"))
    end_open_runs(database)

    assert pruned(database, replace(KEEP_ALL, events=timedelta())).rows == 1

    with database.read() as connection:
        assert events.get(connection, first.event_id) is None
    (again,) = recorded(database, new_event("a"))
    assert again == replace(first, duplicate=True)


ALL_EVENTS = replace(KEEP_ALL, payloads=timedelta(), events=timedelta())


def test_event_is_kept_while_a_run_may_want_it(database: Database) -> None:
    recorded(database, new_event("a"))

    assert pruned(database, ALL_EVENTS).is_done
    (one,) = claim(database)

    assert one.event is not None
    assert one.event["data"] == {"amount": 3}
    end_open_runs(database)
    assert pruned(database, ALL_EVENTS).rows > 0


def test_event_is_kept_that_one_trigger_holds_and_another_has_run(database: Database) -> None:
    event = new_event("a")
    (ran,) = event.matches
    held = replace(ran, trigger="other", outcome=Outcome.HELD, run=None)
    recorded(database, replace(event, matches=(ran, held)))
    end_open_runs(database)

    assert pruned(database, ALL_EVENTS).is_done

    with database.read() as connection:
        kept = events.get(connection, event.id)
    assert kept is not None
    assert (kept.outcome, kept.data) == (Outcome.RAN, {"amount": 3})


def test_match_that_is_added_while_its_event_is_pruned_is_not_lost(database: Database) -> None:
    """Of both at once, one comes first: the event then is kept, or comes back for the trigger that is new."""

    def news(*triggers: str) -> NewEvent:
        event = new_event("a", outcome=Outcome.FILTERED)
        matches = tuple(NewMatch("taxi", trigger, Outcome.FILTERED) for trigger in triggers)
        return replace(event, shared=True, matches=matches)

    for number in range(10):
        names = [f"t{count}" for count in range(number + 2)]
        recorded(database, news(*names[:-1]))
        with ThreadPoolExecutor(2) as pool:
            pruning = pool.submit(pruned, database, ALL_EVENTS)
            added = pool.submit(recorded, database, news(*names))
            pruning.result()
            (answer,) = added.result()
        assert not answer.duplicate

        (again,) = recorded(database, news(*names))
        assert again.duplicate


def test_batches_are_small_and_go_on_until_done(database: Database) -> None:
    recorded(database, *(new_event(f"k{number}") for number in range(5)))
    retention = replace(KEEP_ALL, deliveries=timedelta())

    counts = [pruned(database, retention, batch=2).rows for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(deliveries)).scalar_one() == 0


def test_logs_of_finished_runs_go_and_those_of_open_runs_stay(database: Database) -> None:
    old, opened = finished(database), claimed(database)
    lines = LogLines(opened.run.id, opened.run.claim, (LogLine(0, NOON, "info", "here"),))
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, [lines]))

    while not pruned(database, replace(KEEP_ALL, logs=timedelta()), batch=1).is_done:
        pass

    with database.read() as connection:
        assert logs.read(connection, old) == []
        assert len(logs.read(connection, opened.run.id)) == 1


def test_checkpoints_are_set_aside_in_the_transaction_that_forgets_them(database: Database) -> None:
    old = finished(database)
    retention = replace(KEEP_ALL, checkpoints=timedelta())

    def is_known() -> bool:
        return get(database, old).blocks[0].checkpoint is not None

    seen: list[tuple[list[str], bool]] = []

    def prune_once() -> Pruned:
        return database.write(
            Commit.PRUNE,
            lambda tx: prune.prune(
                tx, retention, set_aside=lambda run_ids: seen.append((list(run_ids), is_known()))
            ),
        )

    assert prune_once() == Pruned(rows=0, checkpoints=1)
    assert prune_once().is_done
    assert seen == [([old], True)]  # not committed yet, seen from outside
    load = get(database, old).blocks[0]
    assert (load.state, load.checkpoint, load.volatile) == (BlockState.SUCCEEDED, None, True)
    database.write(Commit.RETRY, lambda tx: runs.retry(tx, old))
    assert len(claim(database)) == 1


def test_old_runs_go_with_all_they_had_and_open_runs_stay(database: Database) -> None:
    old, opened = finished(database), enqueue(database)
    retention = replace(KEEP_ALL, runs=timedelta(), checkpoints=timedelta())
    assert pruned(database, retention).checkpoints == 1

    assert pruned(database, retention).rows == 1

    with database.read() as connection:
        assert [run.id for run in runs.listing(connection)] == [opened.id]
        assert logs.read(connection, old) == []


def test_pins_and_limits_that_nobody_needs_go(database: Database) -> None:
    run = enqueue(database, new_run(limits=[Limit("k", 1)]))
    claim(database)
    aged = "UPDATE pins SET created_at = 1"
    database.write(Commit.PRUNE, lambda tx: tx.connection.exec_driver_sql(aged))

    def left() -> tuple[int, int]:
        with database.read() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(t)).scalar_one() for t in (pins, limits)
            ]
        return counts[0], counts[1]

    pruned(database, KEEP_ALL)
    assert left() == (1, 1)
    end = RunEnded(run.id, 1, RunState.SUCCEEDED, NOON)
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, [end]))
    pruned(database, KEEP_ALL)
    assert left() == (1, 0)
    database.write(Commit.PRUNE, lambda tx: tx.connection.exec_driver_sql("DELETE FROM runs"))
    pruned(database, KEEP_ALL)
    assert left() == (0, 0)


def test_the_latest_tick_of_a_trigger_stays(database: Database) -> None:
    for minutes in range(3):
        tick = Tick("shop", "taxi", "hook", NOON + timedelta(minutes=minutes), "ran")
        database.write(Commit.TICK, lambda tx, t=tick: ticks.record_tick(tx, t))  # type: ignore[misc]

    assert pruned(database, replace(KEEP_ALL, runs=timedelta())).rows == 2

    with database.read() as connection:
        assert ticks.last_tick(connection, "shop", "taxi", "hook") == NOON + timedelta(minutes=2)


def test_old_rows_of_sensor_ticks_go_and_the_cursor_stays(database: Database) -> None:
    names = ("shop", "taxi", "files")

    def tick(tx: object) -> None:
        claim = sensors.claim_sensor(tx, *names, tick_at=NOON, engine_id="e", lease_seconds=60)  # type: ignore[arg-type]
        assert claim is not None
        sensors.finish_tick(tx, claim, SensorTick(seen=1), "c")  # type: ignore[arg-type]

    database.write(Commit.SENSOR, tick)

    assert pruned(database, replace(KEEP_ALL, deliveries=timedelta(seconds=-1))).rows == 1

    with database.read() as connection:
        assert sensors.listing(connection, *names) == []
        assert sensors.state_of(connection, *names).cursor == "c"

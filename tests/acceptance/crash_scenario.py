"""Makes every kind of commit once, as careful callers would, and tells what the store holds at the end.

Runs in a process of its own. Started again after a crash, it must end with the same summary as one that was
never interrupted.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.crash import CrashPoints
from service.store import (
    announcements,
    backfill_slots,
    backfills,
    engines,
    erasure,
    events,
    outgoing,
    prune,
    refused,
    runs,
    sensors,
    settling,
    ticks,
    triggers,
)
from service.store.backfill_slots import SlotState
from service.store.backfills import Backfill, BackfillState, NewSlot, Place
from service.store.ids import new_id
from service.store.migrate import migrate
from service.store.outgoing import NewOutgoing, SendState
from service.store.session import Commit, Database, Transaction
from service.store.values import (
    BlockEnded,
    BlockStarted,
    BlockState,
    ClaimedRun,
    NewEvent,
    NewMatch,
    NewRun,
    Outcome,
    Pin,
    RunEnded,
    RunState,
)

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
LEASE_SECONDS = 0.2


def play(url: str, home: Path, point: str | None, answers: Connection) -> None:
    """Go through all commits, or die at the point. The summary goes to `answers`."""
    database = Database(url, home=home, crash=CrashPoints(point))
    migrate(database)
    rescue(database)
    see_trigger(database)
    accept(database)
    tick(database)
    sense(database)
    settle(database)
    forget(database)
    by_hand(database)
    replay(database)
    begin_backfill(database)
    database.write(Commit.ENGINE, lambda tx: engines.beat(tx, "engine", slots=1))
    database.write(
        Commit.REFUSE,
        lambda tx: refused.record(tx, [refused.NewRefusal(MOMENT, "webhook:p/t", "bad signature")]),
    )
    execute_all(database)
    end_backfill(database)
    announce(database)
    send_all(database)
    database.write(
        Commit.PRUNE, lambda tx: prune.prune(tx, prune.Retention(), set_aside=lambda run_ids: None)
    )
    answers.send(json.loads(json.dumps(summary(database))))


def rescue(database: Database) -> None:
    time.sleep(LEASE_SECONDS * 1.5)  # a claim of a crashed predecessor has lapsed then
    database.write(Commit.RESCUE, runs.rescue)


def see_trigger(database: Database) -> None:
    database.write(Commit.TRIGGER, lambda tx: triggers.see(tx, "demo", "p", "t"))


def accept(database: Database) -> None:
    event = event_of("webhook:p/t", "delivery-1")
    database.write(Commit.ACCEPT, lambda tx: unwrap(events.record(tx, [event])))


def tick(database: Database) -> None:
    event = event_of("schedule:p/nightly", "2026-01-02T00:00:00Z")

    def write(tx: Transaction) -> None:
        if ticks.record_tick(tx, ticks.Tick("demo", "p", "nightly", MOMENT, "ran", event_id=event.id)):
            unwrap(events.record(tx, [event]))

    database.write(Commit.TICK, write)


def sense(database: Database) -> None:
    claimed = database.write(
        Commit.SENSOR,
        lambda tx: sensors.claim_sensor(
            tx, "demo", "p", "files", tick_at=MOMENT, engine_id="engine", lease_seconds=LEASE_SECONDS
        ),
    )
    if claimed is None:
        return
    event = event_of("files:/in", "a.csv")

    def page(tx: Transaction) -> None:
        unwrap(events.record(tx, [event]))
        sensors.commit_page(tx, claimed, {"after": "a.csv"})

    database.write(Commit.SENSOR, page)
    result = sensors.SensorTick(seen=1, new=1)
    database.write(Commit.SENSOR, lambda tx: sensors.finish_tick(tx, claimed, result, {"after": "a.csv"}))


def settle(database: Database) -> None:
    """Gather two events, and close their batch unless somebody has."""
    trigger = ("demo", "p", "t")
    gathered = [held_event(key) for key in ("first", "second")]
    database.write(Commit.ACCEPT, lambda tx: unwrap(events.record(tx, gathered)))
    with database.read() as connection:
        members = [member.id for member in settling.members(connection, trigger, "all", most=10)]
    if not members:
        return
    batch = event_of("settle:p/t", "batch")
    (match,) = batch.matches
    assert match.run is not None
    run_id = match.run.id

    def close(tx: Transaction) -> None:
        assert settling.reserve(tx, trigger, "all", members)
        unwrap(events.record(tx, [batch]))
        settling.end(tx, trigger, "all", members, outcome=Outcome.BATCHED, reason=None, run_id=run_id)

    database.write(Commit.SETTLE, close)


def held_event(key: str) -> NewEvent:
    match = NewMatch("p", "t", Outcome.HELD, "settling", settle_group="all")
    event = event_of("webhook:p/t", key, runs_it=False)
    return replace(event, outcome=Outcome.HELD, matches=(match,))


def forget(database: Database) -> None:
    event = event_of("webhook:p/t", "to be forgotten", runs_it=False)
    recorded = database.write(Commit.ACCEPT, lambda tx: unwrap(events.record(tx, [event])))
    database.write(Commit.FORGET, lambda tx: erasure.forget(tx, recorded[0].event_id))


def by_hand(database: Database) -> None:
    """Enqueue, cancel, and try again: each step only where the last one left off."""
    new = NewRun(new_id(), "demo", "p", MOMENT)
    run, _ = database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new, "by hand"))
    if run.state is RunState.QUEUED and run.attempt == 1:
        run = database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run.id))
    if run.state is RunState.CANCELLED:
        database.write(Commit.RETRY, lambda tx: runs.retry(tx, run.id))


def replay(database: Database) -> None:
    event = event_of("webhook:p/t", "delivery-1#replay:1", runs_it=False)
    database.write(Commit.REPLAY, lambda tx: unwrap(events.record(tx, [event])))


def begin_backfill(database: Database) -> None:
    """Submit a backfill of one slot, and begin what no run was made for."""
    place = Place("demo", "p")
    with database.read() as connection:
        known = backfills.listing(connection)
    if not known:
        new = Backfill(new_id(), place, {}, BackfillState.RUNNING, None, 1, None, MOMENT)
        slot = NewSlot(0, 1, MOMENT, MOMENT, None, SlotState.PENDING, None)
        database.write(Commit.BACKFILL, lambda tx: backfills.add(tx, new, [slot]))

    def begin(tx: Transaction) -> None:
        for ident in backfills.running(tx.connection):
            for [slot] in backfill_slots.next_chunks(tx.connection, ident, chunks=1, chunk_size=1):
                run, _ = runs.enqueue(tx, NewRun(new_id(), "demo", "p", MOMENT, backfill_id=ident))
                backfill_slots.settle(tx, ident, [slot.position], SlotState.SUBMITTED, run_id=run.id)

    database.write(Commit.BACKFILL, begin)


def end_backfill(database: Database) -> None:
    def end(tx: Transaction) -> None:
        for ident in backfills.running(tx.connection):
            found = backfills.lock_running(tx, ident)
            if found is not None and not backfills.tally(tx.connection, ident).open:
                backfills.finish(tx, found)

    database.write(Commit.BACKFILL, end)


def execute_all(database: Database) -> None:
    claim = partial(
        runs.claim,
        engine_id="engine",
        slots=10,
        lease_seconds=LEASE_SECONDS,
        projects=["demo"],
        pin=lambda run: Pin("0" * 64, {"pipelines/p/metadata.yaml": "name: p"}, (("only", "custom"),)),
    )
    for claimed in database.write(Commit.CLAIM, claim):
        execute(database, claimed)


def execute(database: Database, claimed: ClaimedRun) -> None:
    run = claimed.run
    held = [(run.id, run.claim)]
    database.write(
        Commit.RENEW,
        lambda tx: runs.renew(tx, engine_id="engine", claims=held, lease_seconds=LEASE_SECONDS),
    )
    reports = [
        BlockStarted(run.id, run.claim, "only", 1, MOMENT),
        BlockEnded(run.id, run.claim, "only", BlockState.SUCCEEDED, 1, MOMENT, rows=3),
        RunEnded(run.id, run.claim, RunState.SUCCEEDED, MOMENT),
    ]
    if run.blocks and run.blocks[0].state is BlockState.SUCCEEDED:
        reports = reports[2:]
    for report in reports:
        assert database.write(Commit.REPORT, lambda tx, one=report: runs.apply(tx, [one])) == [True]


def announce(database: Database) -> None:
    """Make an event of the end of each run, with something to be sent, in the commit that marks the run."""
    with database.read() as connection:
        ends = announcements.due(connection, ["demo"], limit=100)
    planned = {end.run_id: event_of("run:p", f"{end.run_id}/{end.attempt}", runs_it=False) for end in ends}

    def write(tx: Transaction) -> None:
        told = [planned[end.run_id] for end in announcements.mark(tx, ends)]
        unwrap(events.record(tx, told))
        outgoing.add(tx, [NewOutgoing("demo", "ops", event.id, event.type, "{}") for event in told])

    if ends:
        database.write(Commit.ANNOUNCE, write)


def send_all(database: Database) -> None:
    """Try what is due; a try that a crash cut off is due again at once, since its lease has no length."""
    claim = partial(outgoing.claim, projects=["demo"], lease=timedelta(0), limit=100)
    tried = outgoing.Tried(SendState.SENT)
    for claimed in database.write(Commit.SEND, claim):
        database.write(Commit.SEND, lambda tx, one=claimed: outgoing.settle(tx, one, tried))


def event_of(source: str, key: str, *, runs_it: bool = True) -> NewEvent:
    event_id = new_id()
    run = NewRun(new_id(), "demo", "p", MOMENT, trigger="t", event_id=event_id) if runs_it else None
    outcome = Outcome.RAN if runs_it else Outcome.FILTERED
    match = NewMatch("p", "t", outcome, run=run)
    return NewEvent(
        event_id,
        "demo",
        source,
        key,
        "test",
        MOMENT,
        MOMENT,
        outcome,
        data="{}",
        matches=(match,),
        road=source,
    )


def unwrap(recorded: list[Any]) -> list[Any]:
    for one in recorded:
        if isinstance(one, Exception):
            raise one
    return recorded


def summary(database: Database) -> dict[str, Any]:
    with database.read() as connection:

        def rows(statement: str) -> list[list[Any]]:
            return sorted(list(row) for row in connection.exec_driver_sql(statement))

        return {
            "events": rows("SELECT source, key, outcome FROM events WHERE source <> 'run:p'"),
            "ends": rows("SELECT count(*), count(DISTINCT key) FROM events WHERE source = 'run:p'"),
            "outgoing": rows("SELECT state, count(*), count(DISTINCT event_id) FROM outgoing GROUP BY state"),
            "runs": rows(
                "SELECT coalesce(e.key, 'by hand'), r.state, r.attempt"
                " FROM runs r LEFT JOIN events e ON e.id = r.event_id"
            ),
            "backfills": rows("SELECT b.state, s.state FROM backfills b, backfill_slots s"),
            "blocks": rows("SELECT name, state, attempt, rows FROM block_runs"),
            "ticks": rows('SELECT "trigger", outcome FROM ticks'),
            "sensors": rows('SELECT "trigger", cursor FROM sensors'),
            "sensor_ticks": rows('SELECT "trigger", new FROM sensor_ticks'),
        }

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from service.store import runs
from service.store.session import Commit, Database
from service.store.values import BlockEnded, BlockStarted, BlockState, RunEnded, RunState
from tests.store.builders import BLOCKS, NOON, PIN, claim, claimed, enqueue, get, new_event, new_run, recorded


def test_a_claim_gives_the_run_its_pin_its_blocks_and_its_event(database: Database) -> None:
    (answer,) = recorded(database, new_event("a"))

    (one,) = claim(database)

    assert one.run.id == answer.run_ids[0]
    assert (one.run.state, one.run.claim, one.run.pin) == (RunState.RUNNING, 1, PIN.hash)
    assert one.pin == PIN
    assert [(block.name, block.type) for block in one.run.blocks] == list(BLOCKS)
    assert one.event is not None
    assert (one.event["id"], one.event["data"]) == (answer.event_id, {"amount": 3})
    assert one.event["time"] == "2024-01-31T12:00:00Z"
    assert get(database, one.run.id) == one.run


def test_higher_priority_goes_first_then_age(database: Database) -> None:
    low, high, high_later = (enqueue(database, new_run(priority=number)) for number in (0, 5, 5))

    order = [claim(database)[0].run.id for _ in range(3)]

    assert order == [high.id, high_later.id, low.id]


def test_a_claim_takes_no_more_than_its_slots_and_only_known_projects(database: Database) -> None:
    for _ in range(3):
        enqueue(database)

    assert len(claim(database, slots=2)) == 2
    strangers = database.write(
        Commit.CLAIM,
        lambda tx: runs.claim(
            tx, engine_id="e", slots=5, lease_seconds=60, projects=["lab"], pin=lambda run: PIN
        ),
    )
    assert strangers == []


def test_a_run_that_cannot_be_pinned_fails_with_the_reason(database: Database) -> None:
    run = enqueue(database)

    assert claim(database, pin="the pipeline has a cycle") == []

    failed = get(database, run.id)
    assert (failed.state, failed.error) == (RunState.FAILED, "the pipeline has a cycle")


def test_a_failed_pin_leaves_the_slot_to_the_next_run(database: Database) -> None:
    broken, good = enqueue(database, new_run("broken")), enqueue(database)

    taken = database.write(
        Commit.CLAIM,
        lambda tx: runs.claim(
            tx,
            engine_id="e",
            slots=1,
            lease_seconds=60,
            projects=["shop"],
            pin=lambda run: PIN if run.pipeline == "taxi" else "no",
        ),
    )

    assert [one.run.id for one in taken] == [good.id]
    assert get(database, broken.id).state is RunState.FAILED


def test_selected_blocks_are_the_only_ones_of_the_run(database: Database) -> None:
    enqueue(database, replace(new_run(), selection=("clean",)))

    (one,) = claim(database)

    assert [block.name for block in one.run.blocks] == ["clean"]


def test_a_live_lease_is_not_rescued_and_a_lapsed_one_is(database: Database) -> None:
    alive, dead = claimed(database), claimed(database, lease_seconds=-1)

    rescued = database.write(Commit.RESCUE, runs.rescue)

    assert rescued == [dead.run.id]
    assert get(database, alive.run.id).state is RunState.RUNNING
    assert get(database, dead.run.id).state is RunState.QUEUED


def test_a_rescued_run_spends_no_try_and_goes_on_where_it_was(database: Database) -> None:
    one = claimed(database, lease_seconds=-1)
    ident, number = one.run.id, one.run.claim
    done = {"files": ["a"]}
    database.write(
        Commit.REPORT,
        lambda tx: runs.apply(
            tx,
            [
                BlockStarted(ident, number, "load", 1, NOON),
                BlockEnded(ident, number, "load", BlockState.SUCCEEDED, 1, NOON, checkpoint=done),
                BlockStarted(ident, number, "clean", 1, NOON),
            ],
        ),
    )
    database.write(Commit.RESCUE, runs.rescue)

    (again,) = claim(database)

    assert again.run.claim == 2
    load, clean, _ = again.run.blocks
    assert (load.state, load.checkpoint) == (BlockState.SUCCEEDED, done)
    assert (clean.state, clean.attempt, clean.deaths) == (BlockState.QUEUED, 0, 0)


def test_a_rescued_run_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    one = claimed(database, lease_seconds=-1)
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, one.run.id))

    assert database.write(Commit.RESCUE, runs.rescue) == []

    run = get(database, one.run.id)
    assert run.state is RunState.CANCELLED
    assert {block.state for block in run.blocks} == {BlockState.CANCELLED}


def test_a_renewal_prolongs_what_is_held_and_tells_what_is_lost(database: Database) -> None:
    held, lost, unwanted = (
        claimed(database, lease_seconds=-1),
        claimed(database, lease_seconds=-1),
        claimed(database),
    )
    database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, unwanted.run.id))
    claims = [(one.run.id, one.run.claim) for one in (held, unwanted)] + [(lost.run.id, lost.run.claim + 1)]

    renewed = database.write(
        Commit.RENEW, lambda tx: runs.renew(tx, engine_id="engine-1", claims=claims, lease_seconds=60)
    )

    assert renewed.held == {held.run.id, unwanted.run.id}
    assert renewed.cancel == {unwanted.run.id}
    assert held.run.id not in database.write(Commit.RESCUE, runs.rescue)


def test_another_engine_cannot_renew(database: Database) -> None:
    one = claimed(database)

    renewed = database.write(
        Commit.RENEW,
        lambda tx: runs.renew(
            tx, engine_id="engine-2", claims=[(one.run.id, one.run.claim)], lease_seconds=60
        ),
    )

    assert not renewed.held


def test_a_waiting_run_is_claimed_when_it_is_due(database: Database) -> None:
    one = claimed(database)
    later = one.run.created_at + timedelta(hours=1)

    def wait_until(moment: object, number: int) -> None:
        end = RunEnded(one.run.id, number, RunState.WAITING, NOON, available_at=moment)  # type: ignore[arg-type]
        database.write(Commit.REPORT, lambda tx: runs.apply(tx, [end]))

    wait_until(later, one.run.claim)
    assert claim(database) == []
    with database.read() as connection:
        assert runs.counts(connection)[RunState.WAITING] == 1

    database.write(
        Commit.REPORT,
        lambda tx: tx.connection.exec_driver_sql("UPDATE runs SET available_at = 1 WHERE state = 'waiting'"),
    )
    (again,) = claim(database)
    assert (again.run.id, again.run.claim) == (one.run.id, 2)

"""What blocks of claimed runs ask of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.errors import ClaimLost
from service.store import calls, runs
from service.store.session import Commit, Database
from service.store.values import BlockEnded, BlockState, RunEnded, RunState
from tests.store.builders import NOON, claim, claimed, new_run


def test_a_lost_claim_can_ask_for_nothing(database: Database) -> None:
    one = claimed(database)

    held = database.write(Commit.ENQUEUE, lambda tx: calls.held(tx, one.run.id, one.run.claim))
    assert held.id == one.run.id
    for run_id, number in ((one.run.id, one.run.claim + 1), (one.run.id, 0), ("nobody", 1)):
        with pytest.raises(ClaimLost):
            database.write(Commit.ENQUEUE, lambda tx, a=run_id, b=number: calls.held(tx, a, b))


def test_runs_know_those_above_them(database: Database) -> None:
    above: str | None = None
    for pipeline in ("a", "b", "c"):
        new = replace(new_run(), pipeline=pipeline, parent_run_id=above)
        database.write(Commit.ENQUEUE, lambda tx, new=new: runs.enqueue(tx, new))
        above = new.id

    assert above is not None
    with database.read() as connection:
        assert calls.lineage(connection, above, most=8) == [("shop", "c"), ("shop", "b"), ("shop", "a")]
        assert calls.lineage(connection, above, most=2) == [("shop", "c"), ("shop", "b")]


def test_only_runs_that_are_parked_are_woken(database: Database) -> None:
    parked, busy = claimed(database), claimed(database)
    later = NOON.replace(year=2999)
    name = parked.run.blocks[0].name
    ends = [
        BlockEnded(parked.run.id, parked.run.claim, name, BlockState.WAITING, 0, NOON, retry_at=later),
        RunEnded(parked.run.id, parked.run.claim, RunState.WAITING, NOON, available_at=later),
    ]
    database.write(Commit.REPORT, lambda tx: runs.apply(tx, ends))

    assert claim(database) == []
    database.write(Commit.CLAIM, lambda tx: calls.wake(tx, [parked.run.id, busy.run.id]))

    assert [one.run.id for one in claim(database)] == [parked.run.id]
    with database.read() as connection:
        assert calls.states(connection, [busy.run.id, "nobody"]) == {busy.run.id: RunState.RUNNING}

"""Limits under all that can happen to runs, in any order: never exceeded, and nobody waits for ever."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from sqlalchemy import text

from service.errors import WrongState
from service.store import runs
from service.store.session import Commit, Database
from service.store.values import Limit, RunEnded, RunState
from tests.store.builders import NOON, claim, enqueue, get, new_run

MAXIMA = {"one": 1, "two": 2, "three": 3}
ENDS = [RunState.SUCCEEDED, RunState.FAILED, RunState.QUEUED, RunState.WAITING, RunState.CANCELLED]
_RUNNING = text(
    "SELECT count(*) FROM runs WHERE state = 'running' AND EXISTS"
    " (SELECT 1 FROM run_limits WHERE run_limits.run_id = runs.id AND run_limits.key = :key)"
)


class Chaos:
    """Enqueues, claims, ends, rescues, cancels and retries runs at random."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self.ids: list[str] = []
        self.claims: dict[str, int] = {}  # of runs an engine believes to hold

    def step(self) -> None:
        choice = self._random.choices(
            [self._enqueue, self._claim, self._end, self._rescue, self._cancel, self._retry],
            weights=[30, 30, 20, 8, 6, 6],
        )
        choice[0]()
        self.check()

    def check(self) -> None:
        with self._database.read() as connection:
            for key, maximum in MAXIMA.items():
                assert connection.execute(_RUNNING, {"key": key}).scalar_one() <= maximum

    def drain(self) -> None:
        """Let engines finish all there is; nobody rescues, so nothing may depend on it."""
        while True:
            for run_id, number in self.claims.items():
                self._report(RunEnded(run_id, number, RunState.SUCCEEDED, NOON))
            self.claims = {one.run.id: one.run.claim for one in claim(self._database, slots=8)}
            self.check()
            if not self.claims:
                return

    def _enqueue(self) -> None:
        keys = [key for key in MAXIMA if self._random.random() < 0.5]
        run = new_run(limits=[Limit(key, MAXIMA[key]) for key in keys])
        self.ids.append(enqueue(self._database, run).id)

    def _claim(self) -> None:
        lease = self._random.choice([-1, 60, 60, 60])  # some engines die
        for one in claim(self._database, slots=self._random.randint(1, 4), lease_seconds=lease):
            self.claims[one.run.id] = one.run.claim

    def _end(self) -> None:
        if self.claims:
            run_id = self._random.choice(sorted(self.claims))
            state = self._random.choice(ENDS)
            due = NOON if state is RunState.WAITING else None
            self._report(RunEnded(run_id, self.claims.pop(run_id), state, NOON, available_at=due))

    def _rescue(self) -> None:
        self._database.write(Commit.RESCUE, runs.rescue)

    def _cancel(self) -> None:
        if self.ids:
            run_id = self._random.choice(self.ids)
            with suppress(WrongState):
                self._database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run_id))

    def _retry(self) -> None:
        if self.ids:
            run_id = self._random.choice(self.ids)
            with suppress(WrongState):
                self._database.write(Commit.RETRY, lambda tx: runs.retry(tx, run_id))

    def _report(self, end: RunEnded) -> None:
        self._database.write(Commit.REPORT, lambda tx: runs.apply(tx, [end]))


@pytest.mark.parametrize("seed", [1, 2])
def test_limits_are_never_exceeded_and_nobody_waits_for_ever(database: Database, seed: int) -> None:
    chaos = Chaos(database, seed)
    for _ in range(150):
        chaos.step()

    chaos.drain()

    assert {get(database, run_id).state.is_final for run_id in chaos.ids} == {True}

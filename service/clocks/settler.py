"""Closes the batches of triggers that settle: what is complete becomes one event and one run."""

from __future__ import annotations

import threading

import structlog

from service.clock import Clock
from service.dispatcher import Dispatcher
from service.errors import StoreError
from service.matching.planning import event_of
from service.matching.settling import Settle, batch_event, batch_source
from service.matching.triggers import CompiledTrigger, StateKey
from service.store import settling, triggers
from service.store.session import Commit, Database, Transaction
from service.store.settling import Group
from service.store.values import NewEvent, NewMatch, Outcome, Recorded, StoredEvent

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0  # how late a batch may close


class Settler:
    """Finds in the store what is complete by now. Any number of engines may: each batch is closed once."""

    def __init__(self, database: Database, dispatcher: Dispatcher, clock: Clock) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close no further batch, and return when the one at hand is closed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def close_due(self) -> int:
        """Close every batch that is complete, and return how many there were."""
        with self._database.read() as connection:
            gathering = settling.triggers(connection)
            paused = triggers.paused(connection) if gathering else frozenset()
        return sum(self._close_of(key) for key in sorted(gathering - paused))

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.close_due()
            except StoreError as error:
                logger.warning("batches could not be looked at", error=str(error))
            except Exception:
                logger.exception("batches could not be looked at")

    def _close_of(self, key: StateKey) -> int:
        project, pipeline, name = key
        compiled = self._dispatcher.triggers(project).get((pipeline, name))
        if compiled is None or compiled.fault is not None or compiled.is_paused_by_file:
            return 0  # the events stay visible as held
        if compiled.settle is None:  # no more: its file has changed
            self._database.write(Commit.SETTLE, lambda tx: settling.ungroup(tx, key))
            return 0
        try:
            return self._close_groups(compiled, compiled.settle)
        except StoreError:
            raise
        except Exception:
            logger.exception("a batch could not be closed", project=project, pipeline=pipeline, trigger=name)
            return 0

    def _close_groups(self, compiled: CompiledTrigger, settle: Settle) -> int:
        closed = 0
        while due := self._due(compiled.state_key, settle):
            before = closed
            for group in due:
                if self._stopping.is_set():
                    return closed
                closed += self._close(compiled, settle, group)
            if closed == before:
                break  # others are at it, or the trigger was paused a moment ago
        return closed

    def _due(self, key: StateKey, settle: Settle) -> list[Group]:
        now = self._clock()
        with self._database.read() as connection:
            found = settling.groups(connection, key)
        return [group for group in found if settle.complete_at(group.count, group.first, group.last) <= now]

    def _close(self, compiled: CompiledTrigger, settle: Settle, group: Group) -> bool:
        """Make the batch of the oldest events of a group. Planned first, for no lock is held meanwhile."""
        with self._database.read() as connection:
            members = settling.members(connection, compiled.state_key, group.name, most=settle.max_count)
        if not members:
            return False
        planned = self._plan(compiled, group.name, members)
        if any(match.outcome is Outcome.HELD for match in _own(planned, compiled)):
            return False  # paused since we looked
        return self._database.write(
            Commit.SETTLE, lambda tx: self._record(tx, compiled, group.name, members, planned)
        )

    def _plan(self, compiled: CompiledTrigger, group: str, members: list[StoredEvent]) -> NewEvent:
        event = batch_event(
            batch_source(compiled.pipeline.name, compiled.name),
            group,
            [(stored.id, event_of(stored)) for stored in members],
            self._clock(),
            arrived=[stored.received_at for stored in members],
        )
        return self._dispatcher.plan(compiled.project, event, [compiled])

    def _record(
        self,
        tx: Transaction,
        compiled: CompiledTrigger,
        group: str,
        members: list[StoredEvent],
        planned: NewEvent,
    ) -> bool:
        """Record the batch, and what became of its members; False when somebody was first."""
        ids = [stored.id for stored in members]
        if not settling.reserve(tx, compiled.state_key, group, ids):
            return False
        (answer,) = self._dispatcher.record_page(tx, [planned])
        if isinstance(answer, Exception):
            raise answer
        outcome, reason, run_id = _end_of(answer, planned, compiled)
        settling.end(tx, compiled.state_key, group, ids, outcome=outcome, reason=reason, run_id=run_id)
        return True


def _own(planned: NewEvent, compiled: CompiledTrigger) -> list[NewMatch]:
    place = (compiled.pipeline.name, compiled.name)
    return [match for match in planned.matches if (match.pipeline, match.trigger) == place]


def _end_of(
    answer: Recorded, planned: NewEvent, compiled: CompiledTrigger
) -> tuple[Outcome, str | None, str | None]:
    """Return the members' outcome, reason and run."""
    (match,) = _own(planned, compiled)
    if match.run is not None and match.run.id in answer.run_ids:
        return Outcome.BATCHED, f"batched into run {match.run.id}", match.run.id
    if match.run is not None:
        return Outcome.SKIPPED, answer.reason, None
    return match.outcome, match.reason, None

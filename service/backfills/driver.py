"""Keeps the runs of backfills going: as many as each allows, the next as soon as one ends.

What was begun is written in the transaction that begins it, under a lock on the backfill's row. So several
engines may drive the same backfill, and any of them may die at any moment.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from pipelines.errors import MillraceError
from service.backfills.making import Declared
from service.backfills.steps import DatesStep, EventStep, Step
from service.backfills.submitting import Backfills
from service.dispatcher import Dispatcher
from service.errors import StoreError
from service.projects import UnknownProject
from service.runtime import Runtime
from service.store import backfill_slots, backfills, replays
from service.store.backfill_slots import StoredSlot
from service.store.backfills import Backfill, BackfillState, Tally
from service.store.session import Commit, Connection, Transaction
from service.store.wakeups import Subscription

logger = structlog.get_logger(__name__)

AT_ONCE = 20  # chunks begun in one transaction: others want to write as well
LEAST_PAUSE_SECONDS = 0.02  # many runs may end at once


class Driver:
    """Looks after all backfills on a thread of its own. Every engine has one."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._backfills = Backfills(runtime, dispatcher)
        self._is_busy = False  # a backfill goes on: the end of any run may be the end of one of its own
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._subscription: Subscription | None = None
        self._thread = threading.Thread(target=self._drive_on, name="backfills", daemon=True)

    def start(self) -> None:
        self._subscription = self._runtime.wakeups.subscribe(self._on_topic)
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new, and return when the transaction at hand is done."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._subscription is not None:
            self._subscription.close()

    def drive(self) -> None:
        """Let every backfill begin what it may. One that fails stops no other."""
        with self._runtime.database.read() as connection:
            ids = backfills.running(connection)
        self._is_busy = bool(ids)
        for backfill_id in ids:
            try:
                while not self._stopping.is_set() and self._advance(backfill_id):
                    pass
            except StoreError:
                raise
            except Exception:
                logger.exception("backfill met an error; it is tried again", backfill_id=backfill_id)

    def _drive_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self.drive()
            except StoreError as error:
                logger.warning("the store is not there, backfills are tried again", error=str(error))
            except Exception:
                logger.exception("the driver of backfills met an error and goes on")
            self._stopping.wait(LEAST_PAUSE_SECONDS)
            self._wake.wait(self._runtime.settings.poll_seconds)
            self._wake.clear()

    def _on_topic(self, topic: str) -> None:
        if topic == backfills.TOPIC or (self._is_busy and topic.startswith("run:")):
            self._wake.set()

    def _advance(self, backfill_id: str) -> bool:
        """Take one step with a backfill, and return whether there may be another one at once."""
        with self._runtime.database.read() as connection:
            backfill = backfills.get(connection, backfill_id)
            if backfill is None or backfill.state is not BackfillState.RUNNING:
                return False
            tally = backfills.tally(connection, backfill_id)
            if not _is_due(backfill, tally):
                return False
            chunks = _next_chunks(connection, backfill, tally)
            kept = replays.load(connection, [slot.event_id for [slot, *_] in chunks if slot.event_id])
        try:
            steps = self._steps(backfill, chunks, {one.event.id: one for one in kept})
        except UnknownProject:
            return False  # another engine serves it
        except MillraceError as error:
            self._stop(backfill_id, str(error))
            return False
        return self._runtime.database.write(Commit.BACKFILL, partial(self._begin, backfill_id, steps))

    def _steps(
        self, backfill: Backfill, chunks: Sequence[Sequence[StoredSlot]], kept: Mapping[str, replays.Kept]
    ) -> Mapping[int, Step]:
        """Do all that needs no transaction, by the first position of each chunk."""
        if not chunks:
            return {}
        declared = self._declared(backfill)
        if backfill.spec["over"] == "events":
            return {
                slot.position: EventStep(backfill, slot, kept.get(slot.event_id or ""), self._dispatcher)
                for [slot, *_] in chunks
            }
        return {chunk[0].position: DatesStep(backfill, chunk, declared) for chunk in chunks}

    def _declared(self, backfill: Backfill) -> Declared:
        try:
            return self._backfills.declared(backfill.place)
        except MillraceError:
            self._runtime.projects.refresh()  # whoever submitted it may have seen the files earlier
            return self._backfills.declared(backfill.place)

    def _begin(self, backfill_id: str, steps: Mapping[int, Step], tx: Transaction) -> bool:
        backfill = backfills.lock_running(tx, backfill_id)
        if backfill is None:
            return False
        tally = backfills.tally(tx.connection, backfill_id)
        if _has_failed_enough(backfill, tally):
            backfills.stop(tx, backfill, f"{tally.failed} failed")
            logger.warning("backfill stopped", backfill_id=backfill_id, failed=tally.failed)
            return False
        if not tally.pending:
            if not tally.open:
                backfills.finish(tx, backfill)
                logger.info("backfill finished", backfill_id=backfill_id)
            return False
        for chunk in _next_chunks(tx.connection, backfill, tally):
            step = steps.get(chunk[0].position)
            if step is not None:  # else another engine was here meanwhile: look again
                step.begin(tx)
        tx.notify("queued")
        return True

    def _stop(self, backfill_id: str, reason: str) -> None:
        def work(tx: Transaction) -> None:
            backfill = backfills.lock_running(tx, backfill_id)
            if backfill is not None:
                backfills.stop(tx, backfill, reason)

        self._runtime.database.write(Commit.BACKFILL, work)
        logger.warning("backfill stopped", backfill_id=backfill_id, reason=reason)


def _is_due(backfill: Backfill, tally: Tally) -> bool:
    if tally.pending:
        return tally.open < backfill.concurrency or _has_failed_enough(backfill, tally)
    return not tally.open


def _has_failed_enough(backfill: Backfill, tally: Tally) -> bool:
    # With nothing left to hold back, it is finished and not stopped.
    return backfill.stop_after is not None and tally.failed >= backfill.stop_after and tally.pending > 0


def _next_chunks(connection: Connection, backfill: Backfill, tally: Tally) -> list[list[StoredSlot]]:
    free = min(backfill.concurrency - tally.open, AT_ONCE)
    if free <= 0:
        return []
    return backfill_slots.next_chunks(
        connection, backfill.id, chunks=free, chunk_size=backfill.spec.get("chunk") or 1
    )

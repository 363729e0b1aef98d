"""One step of a backfill: the slots of a chunk, or an event, get their run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from service.backfills.judging import judge_slots, wants
from service.backfills.making import Declared, Filtered, Maker, Unmade, of_backfill
from service.backfills.request import Reprocess
from service.backfills.slots import Slot
from service.backfills.submitting import span_of
from service.dispatcher import Dispatcher
from service.matching.replaying import Narrowed, ReplayError
from service.store import backfill_slots, runs
from service.store.backfill_slots import SlotState, StoredSlot
from service.store.backfills import Backfill
from service.store.event_reading import matches_of
from service.store.replays import Kept
from service.store.session import Transaction
from service.store.values import NewEvent, NewMatch, Outcome

_NO_RUN = frozenset((Outcome.FILTERED, Outcome.SKIPPED, Outcome.HELD))


class Step(Protocol):
    def begin(self, tx: Transaction) -> None:
        """Make the run, and write down in the same transaction that it is made."""
        ...


class DatesStep:
    """The slots of one chunk, in the order of time."""

    def __init__(self, backfill: Backfill, slots: Sequence[StoredSlot], declared: Declared) -> None:
        self._backfill = backfill
        self._slots = slots
        spec = backfill.spec
        self._maker = Maker(declared, spec["variables"], spec["timezone"], spec["chunk"] > 1)

    def begin(self, tx: Transaction) -> None:
        for group in _neighbours(self._still_wanted(tx)):
            self._begin_group(tx, group)

    def _begin_group(self, tx: Transaction, group: Sequence[StoredSlot]) -> None:
        positions = [slot.position for slot in group]
        try:
            run = self._maker.run([_slot(one) for one in group], self._backfill.id)
        except Filtered as filtered:
            self._settle(tx, positions, SlotState.SKIPPED, reason=str(filtered))
        except Unmade as unmade:
            self._settle(tx, positions, SlotState.FAILED, reason=f"no run could be made of it: {unmade}")
        else:
            runs.enqueue(tx, run)
            self._settle(tx, positions, SlotState.SUBMITTED, run_id=run.id)

    def _still_wanted(self, tx: Transaction) -> list[StoredSlot]:
        """Leave out what has got another run since the list was made: nothing is in flight twice."""
        slots = [_slot(one) for one in self._slots]
        span = span_of(self._backfill.place, slots)
        covering = backfill_slots.covering(tx.connection, span, besides=self._backfill.id)
        reprocess = Reprocess(self._backfill.spec["reprocess"])
        wanted = []
        for one, found in zip(self._slots, judge_slots(slots, covering), strict=True):
            if wants(reprocess, found):
                wanted.append(one)
            else:
                self._settle(tx, [one.position], SlotState.SKIPPED, reason=f"meanwhile: {found.reason}")
        return wanted

    def _settle(
        self,
        tx: Transaction,
        positions: Sequence[int],
        state: SlotState,
        *,
        reason: str | None = None,
        run_id: str | None = None,
    ) -> None:
        backfill_slots.settle(tx, self._backfill.id, positions, state, reason=reason, run_id=run_id)


class EventStep:
    """One stored event, done again under a key that is this slot's own."""

    def __init__(
        self, backfill: Backfill, slot: StoredSlot, kept: Kept | None, dispatcher: Dispatcher
    ) -> None:
        self._backfill = backfill
        self._slot = slot
        self._dispatcher = dispatcher
        self._problem: str | None = None
        self._planned = self._plan(kept)

    def begin(self, tx: Transaction) -> None:
        if self._planned is None:
            self._settle(tx, SlotState.FAILED, self._problem, None)
            return
        (answer,) = self._dispatcher.record_page(tx, [self._planned])
        if isinstance(answer, Exception):
            self._settle(tx, SlotState.FAILED, str(answer), None)
            return
        (match,) = matches_of(tx.connection, [answer.event_id])[answer.event_id]
        if match.run_id is not None:
            self._settle(tx, SlotState.SUBMITTED, None, match.run_id)
        else:
            state = SlotState.SKIPPED if match.outcome in _NO_RUN else SlotState.FAILED
            self._settle(tx, state, f"{match.outcome}: {match.reason}", None)

    def _plan(self, kept: Kept | None) -> NewEvent | None:
        if kept is None:
            self._problem = f"event {self._slot.event_id} is not stored any more"
            return None
        place = self._backfill.place
        end = f"{self._backfill.id}.{self._slot.position}"
        try:
            planned = self._dispatcher.plan_replay(
                kept, only=Narrowed(place.pipeline, place.trigger), end=end
            )
        except ReplayError as error:
            self._problem = str(error)
            return None
        return replace(planned, matches=tuple(self._of_backfill(match) for match in planned.matches))

    def _of_backfill(self, match: NewMatch) -> NewMatch:
        run = match.run
        return match if run is None else replace(match, run=of_backfill(run, self._backfill.id))

    def _settle(self, tx: Transaction, state: SlotState, reason: str | None, run_id: str | None) -> None:
        position = [self._slot.position]
        backfill_slots.settle(tx, self._backfill.id, position, state, reason=reason, run_id=run_id)


def _neighbours(slots: Sequence[StoredSlot]) -> Iterator[list[StoredSlot]]:
    """Cut where a slot was left out: the interval of a run stands for every slot in it."""
    group: list[StoredSlot] = []
    for slot in slots:
        if group and group[-1].end != slot.start:
            yield group
            group = []
        group.append(slot)
    if group:
        yield group


def _slot(one: StoredSlot) -> Slot:
    assert one.start is not None
    assert one.end is not None
    return Slot(one.start, one.end)

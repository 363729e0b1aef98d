"""The list of slots with what will happen to each, and why. What is submitted is such a list."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.backfills.judging import Found, Status, wants
from service.backfills.making import iso
from service.backfills.request import Order, Reprocess, Request
from service.backfills.slots import Slot
from service.store.backfill_slots import SlotState
from service.store.backfills import NewSlot

Try = Callable[[Slot], Found | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the list: a span of time, or an event. It runs if it has a chunk."""

    status: Status
    reason: str
    runs: bool
    start: datetime | None = None
    end: datetime | None = None
    event_id: str | None = None
    position: int = 0
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """What a backfill would do, slot by slot in the order of processing."""

    request: Request
    entries: tuple[Entry, ...]

    @property
    def runs(self) -> int:
        """How many runs there will be."""
        return len({entry.chunk for entry in self.entries if entry.runs})

    @property
    def counts(self) -> Mapping[str, int]:
        """How many slots are in each status, and how many run and are skipped."""
        found = Counter(str(entry.status) for entry in self.entries)
        running = sum(entry.runs for entry in self.entries)
        return {"run": running, "skip": len(self.entries) - running, **found}

    @property
    def token(self) -> str:
        """A digest of all that was shown. It changes with what will happen, and with what is there."""
        shown = [
            [_iso(one.start), _iso(one.end), one.event_id, one.status.value, one.chunk]
            for one in self.entries
        ]
        request = [*map(str, (self.request.place, self.request.concurrency)), self.request.spec()]
        text = json.dumps([request, shown], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def slots(self) -> list[NewSlot]:
        return [
            NewSlot(
                entry.position,
                entry.chunk,
                entry.start,
                entry.end,
                entry.event_id,
                SlotState.PENDING if entry.runs else SlotState.SKIPPED,
                entry.reason,
            )
            for entry in self.entries
        ]


def of_dates(request: Request, slots: Sequence[Slot], found: Sequence[Found], try_run: Try) -> Preview:
    """Decide on every slot. `try_run` is asked for those that are wanted: it may say why it cannot be."""
    entries = []
    for slot, there in zip(slots, found, strict=True):
        is_wanted = wants(request.reprocesses, there)
        problem = try_run(slot) if is_wanted else None
        judged = problem or there
        entries.append(_entry(request.reprocesses, judged, is_wanted and problem is None, slot=slot))
    return _listed(request, entries)


def of_events(request: Request, found: Sequence[tuple[str, Found]]) -> Preview:
    """Decide on every event, given as id and what is there of it."""
    return _listed(
        request,
        [
            _entry(request.reprocesses, there, wants(request.reprocesses, there), event_id=event_id)
            for event_id, there in found
        ],
    )


def _entry(
    reprocess: Reprocess, found: Found, runs: bool, *, slot: Slot | None = None, event_id: str | None = None
) -> Entry:
    reason = found.reason
    if not runs and found.status in (Status.DONE, Status.FAILED):
        reason += f"; reprocess is {reprocess}"
    start, end = (slot.start, slot.end) if slot is not None else (None, None)
    return Entry(found.status, reason, runs, start, end, event_id)


def _listed(request: Request, entries: Sequence[Entry]) -> Preview:
    """Put the entries in order, keep to the limit, and number them and their chunks."""
    ordered = list(entries)
    if request.order is Order.BACKWARD:
        ordered.reverse()
    ordered = list(_limited(ordered, request.limit))
    numbered: list[Entry] = []
    for number, chunk in enumerate(_chunks(ordered, request.chunk, request.order)):
        for entry in chunk:
            place = number + 1 if entry.runs else 0
            numbered.append(replace(entry, position=len(numbered), chunk=place))
    return Preview(request, tuple(_without_holes(numbered)))


def _limited(entries: Sequence[Entry], limit: int | None) -> Iterator[Entry]:
    chosen = 0
    for entry in entries:
        if entry.runs and limit is not None and chosen == limit:
            yield replace(entry, runs=False, reason=f"{entry.reason}; beyond the limit of {limit}")
            continue
        chosen += entry.runs
        yield entry


def _chunks(entries: Sequence[Entry], size: int, order: Order) -> Iterator[list[Entry]]:
    """Gather neighbours that run, up to `size`, in the order of time; what is skipped stays alone.

    Only neighbours: the interval of their run stands for every slot in it.
    """
    gathered: list[Entry] = []
    for entry in entries:
        if gathered and (not entry.runs or len(gathered) == size):
            yield _in_time(gathered, order)
            gathered = []
        if entry.runs:
            gathered.append(entry)
        else:
            yield [entry]
    if gathered:
        yield _in_time(gathered, order)


def _in_time(gathered: list[Entry], order: Order) -> list[Entry]:
    return gathered[::-1] if order is Order.BACKWARD else gathered


def _without_holes(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Number the chunks 1, 2, 3, whatever was skipped between them."""
    numbers: dict[int, int] = {}
    for entry in entries:
        yield replace(entry, chunk=numbers.setdefault(entry.chunk, len(numbers) + 1)) if entry.runs else entry


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)

"""Ranges of time cut into slots, one after the other, without gaps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import count, pairwise, takewhile
from zoneinfo import ZoneInfo

from pipelines.errors import MillraceError
from service.clocks.cron import WallClock
from service.clocks.timetable import Timetable

MOST_SLOTS = 10_000
FIRST_YEAR, LAST_YEAR = 1000, 9990  # slots do not reach the ends of what a date can be

_STEP = re.compile(r"\s*(\d{1,6})\s*(mo|[mhdwy])\s*")
_INSTANT = timedelta(microseconds=1)


class SlotError(MillraceError):
    """A range or a step makes no slots. One sentence."""


class Unit(StrEnum):
    MINUTES = "m"
    HOURS = "h"
    DAYS = "d"
    WEEKS = "w"
    MONTHS = "mo"
    YEARS = "y"


_REAL = {Unit.MINUTES: timedelta(minutes=1), Unit.HOURS: timedelta(hours=1)}
_DAYS = {Unit.DAYS: 1, Unit.WEEKS: 7}
_MONTHS = {Unit.MONTHS: 1, Unit.YEARS: 12}


@dataclass(frozen=True, slots=True)
class Slot:
    """One span of time, its end not included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """How long a slot is. Minutes and hours really pass; days and longer are counted on the calendar."""

    number: int
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Step:
        """Read `15m`, `1h`, `1d`, `1w`, `1mo`, `1y`. Raises SlotError."""
        found = _STEP.fullmatch(text)
        if found is None or int(found[1]) == 0:
            raise SlotError(f"{text!r} is no step; write a number and a unit: 15m, 1h, 1d, 1w, 1mo or 1y")
        return cls(int(found[1]), Unit(found[2]))

    def bounds(self, start: datetime, clock: WallClock) -> Iterator[datetime]:
        """Yield `start` and every moment that is whole steps later, each once.

        All are counted from `start`, so that short months do not pull later ones back.
        """
        last: datetime | None = None
        for steps in count():
            bound = self._after(start, steps * self.number, clock)
            if bound is None:
                raise SlotError(f"a slot of {self.number}{self.unit} leads beyond the year {LAST_YEAR}")
            if last is None or bound > last:  # a day that a zone skips altogether is no slot
                yield bound
                last = bound

    def _after(self, start: datetime, units: int, clock: WallClock) -> datetime | None:
        if not units:
            return start  # as it is, also where the clock shows its time twice
        if self.unit in _REAL:
            return _in_reach(start, units * _REAL[self.unit])
        wall = clock.shows(start)
        if self.unit in _DAYS:
            moved = _in_reach(wall, timedelta(days=units * _DAYS[self.unit]))
        else:
            moved = _months_later(wall, units * _MONTHS[self.unit])
        return None if moved is None else clock.moment_of(moved)


@dataclass(frozen=True, slots=True)
class Range:
    """From a moment to a last one, which counts: a slot that begins at it belongs to the range."""

    start: datetime
    last: datetime

    @classmethod
    def of(cls, start: date | datetime, end: date | datetime, zone: ZoneInfo) -> Range:
        """Read both ends; what has no zone is local time, and an end without a time is that whole day."""
        first, last = _moment(start, time.min, zone), _moment(end, time.max, zone)
        if last < first:
            raise SlotError(f"the end {end.isoformat()} is before the start {start.isoformat()}")
        return cls(first, last)


def steps_of(span: Range, step: Step, zone: ZoneInfo) -> list[Slot]:
    """Cut the range into slots of a step. Raises SlotError when there are too many."""
    return _slots(step.bounds(span.start, WallClock(zone)), span)


def ticks_of(span: Range, timetable: Timetable) -> list[Slot]:
    """Return a slot for each tick of a schedule within the range, up to the next tick. Raises SlotError."""
    return _slots(timetable.after(span.start - _INSTANT), span)


def _slots(bounds: Iterator[datetime], span: Range) -> list[Slot]:
    found: list[Slot] = []
    for start, end in takewhile(lambda pair: pair[0] <= span.last, pairwise(bounds)):
        if len(found) == MOST_SLOTS:
            raise SlotError(
                f"the range has more than {MOST_SLOTS} slots; take a longer step or a shorter range"
            )
        found.append(Slot(start, end))
    return found


def _moment(given: date | datetime, open_time: time, zone: ZoneInfo) -> datetime:
    if not isinstance(given, datetime):
        given = datetime.combine(given, open_time)
    if not FIRST_YEAR <= given.year <= LAST_YEAR:
        raise SlotError(f"{given.isoformat()} is not within the years {FIRST_YEAR} to {LAST_YEAR}")
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    return WallClock(zone).moment_of(given)


def _in_reach(moment: datetime, span: timedelta) -> datetime | None:
    try:
        moved = moment + span
    except OverflowError:
        return None
    return moved if moved.year <= LAST_YEAR + 1 else None


def _months_later(wall: datetime, months: int) -> datetime | None:
    """Return the same day of a later month, or its last day where it has no such day."""
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    if year > LAST_YEAR + 1:
        return None
    first = date(year, month + 1, 1)
    following = date(year + month // 11, (month + 1) % 12 + 1, 1)
    days = (following - first).days
    return wall.replace(year=year, month=month + 1, day=min(wall.day, days))

"""Cron expressions as Debian's cron reads them, in any time zone, as one series of moments in UTC.

cronsim reads the expression and enumerates times of a clock on a wall. Which moments those are, on days when
the clocks change, is decided here: cronsim's own answers there depend on where it begins, repeat a moment
when several times fall into a gap, and lose ticks where the clocks change by half an hour.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
WIDEST_CHANGE = timedelta(hours=26)  # no clock was ever put forward or back by more


@dataclass(frozen=True, slots=True)
class WallClock:
    """The clock on the walls of a time zone."""

    zone: ZoneInfo

    def offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self.zone).utcoffset() or timedelta()

    def shows(self, moment: datetime) -> datetime:
        """Return the naive local time of a moment."""
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def moment_of(self, wall: datetime) -> datetime:
        """Return when the clock shows `wall`: the first time of two; the end of a gap that skips it."""
        moment = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self.shows(moment) == wall:
            return moment
        before_gap = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return self.change(before_gap, moment) or moment

    def change(self, since: datetime, until: datetime) -> datetime | None:
        """Return the first moment after `since`, up to `until`, at which the clock has been changed."""
        offset = self.offset(since)
        begin = since
        while begin < until:
            end = min(begin + DAY, until)
            if self.offset(end) != offset:
                return self._first_other(begin, end, offset)
            begin = end
        return None

    def _first_other(self, begin: datetime, end: datetime, offset: timedelta) -> datetime:
        seconds = range((begin - EPOCH) // SECOND + 1, (end - EPOCH) // SECOND)
        place = bisect_left(seconds, True, key=lambda second: self.offset(EPOCH + second * SECOND) != offset)
        return EPOCH + (seconds.start + place) * SECOND


@dataclass(frozen=True, slots=True)
class CronSeries:
    """All moments at which one expression is due in one time zone.

    On the days the clocks change: a fixed time that does not exist is due at the first moment after the gap,
    one that comes twice is due once, and a `*` in hours or minutes is due in every hour that really passes.
    """

    expression: str
    clock: WallClock

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the due moments after `moment`, ascending, each once, wherever one begins to look."""
        last = moment
        for due in self._fixed(moment) if self.is_fixed else self._real(moment):
            if due > last:  # several times of one gap are one moment
                yield due
                last = due

    @property
    def is_fixed(self) -> bool:
        """Say whether it names times of the day; else it means steps of the time that really passes."""
        *_, minutes, hours, _day, _month, _weekday = self.expression.split()
        return not minutes.startswith("*") and not hours.startswith("*")

    def _fixed(self, moment: datetime) -> Iterator[datetime]:
        for wall in CronSim(self.expression, self._start(moment)):
            yield self.clock.moment_of(wall)

    def _start(self, moment: datetime) -> datetime:
        """Return a local time before all whose moment is later: near a change, that is not what is shown."""
        offsets = {self.clock.offset(moment + shift) for shift in (-WIDEST_CHANGE, WIDEST_CHANGE)}
        shown = self.clock.shows(moment)
        return shown if len(offsets) == 1 else shown - WIDEST_CHANGE

    def _real(self, moment: datetime) -> Iterator[datetime]:
        begin: datetime | None = moment.replace(microsecond=0) + SECOND  # what is due is so at a whole second
        while begin is not None:
            begin = yield from self._stretch(begin)

    def _stretch(self, begin: datetime) -> Generator[datetime, None, datetime | None]:
        """Yield what is due while the clock is left as it is at `begin`; return when it is changed."""
        offset = self.clock.offset(begin)
        since = begin
        for wall in CronSim(self.expression, (begin + offset).replace(tzinfo=None) - SECOND):
            due = (wall - offset).replace(tzinfo=UTC)
            change = self.clock.change(since, due)
            if change is not None:
                return change
            yield due
            since = due
        return None

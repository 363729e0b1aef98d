"""Cron from first principles, to judge the service's own: nothing here knows cronsim or our timetables.

Time is counted in whole minutes since 1970. A zone is an array of what its clocks show at every real minute,
as `zoneinfo` says; an expression is a table of the days and the minutes of a day that it names.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

Minutes = npt.NDArray[np.int32]
Span = tuple[datetime, datetime]

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2031, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY_MINUTES = 1440
EDGE_DAYS = 4  # beside the years themselves, so that nothing begins or ends at their edge

_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def to_minutes(moment: datetime) -> int:
    return (moment - EPOCH) // MINUTE


def to_moments(minutes: Sequence[int] | Minutes) -> list[datetime]:
    return [EPOCH + int(minute) * MINUTE for minute in minutes]


@cache
def real_minutes() -> Minutes:
    """Every minute of the years, and of a few days beside them."""
    edge = EDGE_DAYS * DAY_MINUTES
    return np.arange(to_minutes(FIRST) - edge, to_minutes(END) + edge, dtype=np.int32)


class Zone:
    """What the clocks of a zone show at every real minute. Large: look at one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown = self._shown()
        self.latest = np.maximum.accumulate(self.shown)  # the latest local time shown so far
        (places,) = np.nonzero(np.diff(self.shown) != 1)
        self.changes = to_moments(real_minutes()[places + 1])  # the first moments of each new offset

    def _shown(self) -> Minutes:
        midnights = to_moments(real_minutes()[::DAY_MINUTES])
        offsets = [self._offset(day) for day in [*midnights, midnights[-1] + timedelta(days=1)]]
        shown = real_minutes() + np.repeat(np.array(offsets[:-1], dtype=np.int32), DAY_MINUTES)
        for place, day in enumerate(midnights):
            if offsets[place] != offsets[place + 1]:  # within this day the clock is changed
                begin = place * DAY_MINUTES
                for minute in range(DAY_MINUTES):
                    shown[begin + minute] = real_minutes()[begin + minute] + self._offset(
                        day + minute * MINUTE
                    )
        return shown

    def _offset(self, moment: datetime) -> int:
        offset = moment.astimezone(ZoneInfo(self.name)).utcoffset()
        assert offset is not None
        return offset // MINUTE


@cache
def zone_names() -> tuple[str, ...]:
    """Every zone of the IANA; of those with the same rules in these years, the first."""
    days = [FIRST + timedelta(days=day) for day in range((END - FIRST).days)]
    by_rules: dict[tuple[timedelta | None, ...], str] = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        by_rules.setdefault(tuple(day.astimezone(zone).utcoffset() for day in days), name)
    return tuple(by_rules.values())


@dataclass(frozen=True)
class Crontab:
    """A line of a crontab: minute, hour, day of month, month, day of week."""

    text: str

    def due(self, zone: Zone, spans: Sequence[Span]) -> list[list[datetime]]:
        """Return, for each span, the moments after its begin, up to its end, as Debian's cron has them."""
        if self._is_fixed:
            due = self._fixed(zone)
            return [_within(due, begin, end) for begin, end in spans]
        return [_within(self._real(zone, begin, end), begin, end) for begin, end in spans]

    def _fixed(self, zone: Zone) -> Minutes:
        """A time of day is due when the clock has reached it for the first time, skipped or not."""
        wanted = (self._days[:, None] * DAY_MINUTES + self._times[None, :]).ravel()
        places = np.searchsorted(zone.latest, wanted)
        places = places[(places > 0) & (places < len(zone.latest))]
        return real_minutes()[places[np.diff(places, prepend=0) > 0]]  # those of one gap are one

    def _real(self, zone: Zone, begin: datetime, end: datetime) -> Minutes:
        """A step is due at every real minute at which the clock shows what the line names."""
        first, last = (to_minutes(moment) - int(real_minutes()[0]) for moment in (begin, end))
        shown, real = zone.shown[first : last + 1], real_minutes()[first : last + 1]
        at_time = np.isin(shown % DAY_MINUTES, self._times)
        return real[at_time][np.isin(shown[at_time] // DAY_MINUTES, self._days)]

    @property
    def _is_fixed(self) -> bool:
        minutes, hours, *_ = self.text.split()
        return not minutes.startswith("*") and not hours.startswith("*")

    @cached_property
    def _times(self) -> Minutes:
        """The minutes of a day."""
        minutes, hours, *_ = self.text.split()
        return np.array(
            [hour * 60 + minute for hour in _numbers(hours, 0, 23) for minute in _numbers(minutes, 0, 59)],
            dtype=np.int32,
        )

    @cached_property
    def _days(self) -> Minutes:
        """The days since 1970."""
        first, last = FIRST.date() - timedelta(days=EDGE_DAYS + 2), END.date() + timedelta(days=EDGE_DAYS + 2)
        days = [first + timedelta(days=count) for count in range((last - first).days)]
        return np.array([(day - EPOCH.date()).days for day in days if self._has(day)], dtype=np.int32)

    def _has(self, day: date) -> bool:
        _, _, of_month, months, of_week = self.text.split()
        if day.month not in set(_numbers(months, 1, 12, _MONTHS)):
            return False
        by_month = any(_is_day_of_month(term, day) for term in of_month.split(","))
        by_week = any(_is_weekday(term, day) for term in of_week.split(","))
        if of_month.startswith("*") or of_week.startswith("*"):
            return by_month and by_week
        return by_month or by_week


def _within(due: Minutes, begin: datetime, end: datetime) -> list[datetime]:
    first, last = np.searchsorted(due, [to_minutes(begin), to_minutes(end)], side="right")
    return to_moments(due[first:last])


def _is_day_of_month(term: str, day: date) -> bool:
    last = calendar.monthrange(day.year, day.month)[1]
    if term == "L":
        return day.day == last
    if term == "LW":
        weekdays = [
            number for number in range(1, last + 1) if date(day.year, day.month, number).weekday() < 5
        ]
        return day.day == weekdays[-1]
    return day.day in _numbers(term, 1, 31)


def _is_weekday(term: str, day: date) -> bool:
    if "#" in term:
        name, count = term.split("#")
        return _is_weekday(name, day) and (day.day - 1) // 7 == int(count) - 1
    if term.endswith("L"):
        return _is_weekday(term[:-1], day) and (day + timedelta(days=7)).month != day.month
    return day.isoweekday() % 7 in {number % 7 for number in _numbers(term, 0, 7, _WEEKDAYS)}


def _numbers(field: str, low: int, high: int, names: Sequence[str] = ()) -> Iterator[int]:
    for term in field.split(","):
        span, _, step = term.partition("/")
        if span == "*":
            first, last = low, high
        elif "-" in span:
            first, last = (_number(part, low, names) for part in span.split("-"))
        else:
            first = _number(span, low, names)
            last = high if step else first
        yield from range(first, last + 1, int(step or 1))


def _number(text: str, low: int, names: Sequence[str]) -> int:
    return names.index(text.upper()) + low if text.upper() in names else int(text)

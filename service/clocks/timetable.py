"""When a trigger is due: cron expressions and even steps, as one series of moments in UTC.

A series never depends on when somebody began to look at it. So all engines, before and after any restart,
agree on which ticks there are, and the store can tell each by its moment.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.base import BaseTrigger
from cronsim import CronSim, CronSimError

from pipelines.cron_names import ALWAYS_ON, ONCE, cron_text
from pipelines.errors import MillraceError
from service.clocks.cron import EPOCH, CronSeries, WallClock

FIRST_WINDOW = timedelta(hours=1)
WIDEST_WINDOW = timedelta(days=366)

_SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


class TimetableError(MillraceError):
    """A trigger's times make no sense. One sentence, without the trigger's name."""


class Timetable(ABC):
    """An endless series of due moments."""

    @abstractmethod
    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the due moments after `moment`, ascending, in UTC."""

    def next(self, moment: datetime) -> datetime | None:
        return next(self.after(moment), None)

    def due(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the moments after `since` up to and including `until`, the newest first.

        Whoever wants only the newest few pays only for those, however long ago `since` is.
        """
        width = FIRST_WINDOW
        end = until
        while end > since:
            begin = max(since, end - width)
            window = list(takewhile(lambda due, end=end: due <= end, self.after(begin)))  # type: ignore[misc]
            yield from reversed(window)
            end = begin
            width = min(width * 4, WIDEST_WINDOW)


@dataclass(frozen=True, slots=True)
class Every(Timetable):
    """Even steps, counted from the epoch and not from the start of a process."""

    step: timedelta

    def after(self, moment: datetime) -> Iterator[datetime]:
        count = (moment - EPOCH) // self.step
        while True:
            count += 1
            yield EPOCH + count * self.step


@dataclass(frozen=True, slots=True)
class Cron(Timetable):
    """A cron expression in one time zone; see `service.clocks.cron` for the days the clocks change."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        return CronSeries(self.expression, WallClock(self.zone)).after(moment)


@dataclass(frozen=True, slots=True)
class NotBefore(Timetable):
    """Another timetable, from a moment on."""

    timetable: Timetable
    start: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        # A moment that is due exactly at the start counts.
        return self.timetable.after(max(moment, self.start - timedelta(microseconds=1)))


@dataclass(frozen=True, slots=True)
class NotAfter(Timetable):
    """Another timetable, up to and including a moment."""

    timetable: Timetable
    end: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        return takewhile(lambda due: due <= self.end, self.timetable.after(moment))


@dataclass(frozen=True, slots=True)
class Once(Timetable):
    """One moment for ever: the first sight of the trigger, or its `start`."""

    start: datetime | None = None

    def after(self, moment: datetime) -> Iterator[datetime]:
        if self.start is not None and self.start > moment:
            yield self.start


@dataclass(frozen=True, slots=True)
class AlwaysOn(Every):
    """Mage's `@always_on`: every second at which no run of the trigger is open."""

    step: timedelta = timedelta(seconds=1)


class TimetableTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 has no types
    """A timetable as APScheduler wants it."""

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        # After `now` and not after the last fire: what was missed is found in the store by whoever fires, and
        # enumerating a week of seconds here would stop the scheduler's thread.
        latest = now if previous_fire_time is None else max(previous_fire_time, now)
        return self._timetable.next(latest.astimezone(UTC))


def timetable_of(spec: Mapping[str, Any], *, every: str | None = None) -> Timetable:
    """Build the timetable a trigger's keys describe; `every` is the default. Raises TimetableError."""
    start, end = (None if spec.get(key) is None else _moment(spec[key], key) for key in ("start", "end"))
    if spec.get("cron") == ONCE:
        return Once(start)
    timetable = _stepping(spec, every)
    if start is not None:
        timetable = NotBefore(timetable, start)
    return timetable if end is None else NotAfter(timetable, end)


def zone_of(spec: Mapping[str, Any]) -> ZoneInfo:
    """Return the zone a trigger's times are meant in. Raises TimetableError."""
    name = str(spec.get("timezone") or "UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise TimetableError(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from None


def duration(value: object) -> timedelta:
    """Read `30s`, `15m`, `1h`, `1d`, `1w`, `1h 30m`, or a number of seconds. Raises TimetableError."""
    text = str(value).strip().lower()
    parts = _DURATION.findall(text)
    if parts and not _DURATION.sub("", text).strip():
        return timedelta(seconds=sum(float(count) * _SECONDS_OF[unit] for count, unit in parts))
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise TimetableError(f"{value!r} is no span of time; write it like 30s, 15m, 1h or 1d") from None


def _stepping(spec: Mapping[str, Any], every: str | None) -> Timetable:
    if spec.get("cron") == ALWAYS_ON:
        return AlwaysOn()
    return _cron(spec) if spec.get("cron") is not None else _every(spec.get("every", every))


def _cron(spec: Mapping[str, Any]) -> Cron:
    expression = cron_text(str(spec["cron"]))
    zone = zone_of(spec)
    try:
        CronSim(expression, EPOCH)
    except CronSimError as error:
        raise TimetableError(f"the cron expression {expression!r} cannot be read: {error}") from None
    return Cron(expression, zone)


def _every(value: object) -> Every:
    if value is None:
        raise TimetableError("a schedule needs `cron` or `every`")
    step = duration(value)
    if step < timedelta(seconds=1):
        raise TimetableError(f"`every` is {value!r}; the shortest step is 1s")
    return Every(step)


def _moment(value: object, key: str) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise TimetableError(f"`{key}` is {value!r}, which is no time; write 2024-01-31T00:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

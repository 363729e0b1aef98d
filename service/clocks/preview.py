"""When a trigger is due next, as people read it: in UTC and on the clocks of its zone, with what those do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from pipelines.model import Trigger, TriggerType
from service.clocks.cron import WallClock
from service.clocks.timetable import AlwaysOn, Once, timetable_of, zone_of
from service.watching.polling import SENSOR_EVERY

DAY = timedelta(days=1)
TIMED = (TriggerType.SCHEDULE, TriggerType.SENSOR, TriggerType.EXPECTATION)


@dataclass(frozen=True, slots=True)
class Preview:
    """One due moment. `clock_change` says what the clocks of the zone do on that local day, if anything."""

    utc: datetime
    local: datetime  # with its offset
    clock_change: str | None


def upcoming(trigger: Trigger, after: datetime) -> Iterator[Preview]:
    """Yield the due moments of a schedule, a sensor or an expectation. Raises TimetableError."""
    every = SENSOR_EVERY if trigger.type is TriggerType.SENSOR else None
    timetable = timetable_of(trigger.spec, every=every)
    clock = WallClock(zone_of(trigger.spec))
    if isinstance(timetable, AlwaysOn):
        return
    for due in timetable.after(after):
        yield Preview(due, due.astimezone(clock.zone), _change_on(clock, clock.shows(due)))


def without_moments(trigger: Trigger) -> str | None:
    """Return a sentence about a schedule whose moments nobody can know beforehand."""
    timetable = timetable_of(trigger.spec) if trigger.type is TriggerType.SCHEDULE else None
    if isinstance(timetable, AlwaysOn):
        return "it is due whenever no run of it is open"
    if isinstance(timetable, Once):
        start = f", from {timetable.start.isoformat()} on" if timetable.start else ""
        return f"it is due once, when an engine first sees it{start}"
    return None


def _change_on(clock: WallClock, shown: datetime) -> str | None:
    midnight = datetime.combine(shown.date(), time())
    begin, end = clock.moment_of(midnight), clock.moment_of(midnight + DAY)
    # A day whose midnight is skipped begins with its change.
    change = clock.change(begin - timedelta(seconds=1), end - timedelta(seconds=1))
    if change is None:
        return None
    before, after = clock.offset(change - timedelta(seconds=1)), clock.offset(change)
    direction = "forward" if after > before else "back"
    minutes = abs(after - before) // timedelta(minutes=1)
    shown_before = clock.shows(change - timedelta(seconds=1)) + timedelta(seconds=1)
    return f"clocks go {direction} {minutes} min at {shown_before:%H:%M}"

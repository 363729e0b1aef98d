"""What becomes of the due ticks of a schedule: pure, so that years of them can be tried in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from service.clocks.timetable import Timetable, TimetableError

GRACE = timedelta(seconds=60)  # a tick this late is still in time: engines restart, threads wait
MAX_RUNS = 100  # the most ticks that `catch_up: all` runs at once
MAX_ROWS = 1000  # the most missed ticks that get a row each; older ones share one


class CatchUp(StrEnum):
    """What happens to ticks that fell due while no engine was there."""

    NONE = "none"  # they are recorded as missed
    LATEST = "latest"  # the newest runs, the others are recorded as missed
    ALL = "all"  # the newest MAX_RUNS run

    @classmethod
    def parse(cls, value: object) -> CatchUp:
        """Read a trigger's `catch_up`. Without one the newest runs, as in Mage."""
        if value is None:
            return cls.LATEST
        try:
            return cls(str(value).lower())
        except ValueError:
            raise TimetableError(f"`catch_up` is {value!r}; it may be none, latest or all") from None


@dataclass(frozen=True, slots=True)
class DueTick:
    """One due moment, and why it is missed; None when it is to run."""

    at: datetime
    missed: str | None = None


def due_ticks(
    timetable: Timetable, policy: CatchUp, *, since: datetime, now: datetime, grace: timedelta = GRACE
) -> list[DueTick]:
    """Decide on every tick after `since` up to `now`, ascending.

    Of a very long outage the oldest ticks are one entry, at the last of them, that names their span.
    """
    newest_first = timetable.due(since, now)
    decided = [
        _decide(place, at, policy, now - grace) for place, at in enumerate(islice(newest_first, MAX_ROWS))
    ]
    return [*_rest(newest_first, since), *reversed(decided)]


def _decide(place: int, at: datetime, policy: CatchUp, in_time_from: datetime) -> DueTick:
    match policy:
        case CatchUp.ALL if place < MAX_RUNS:
            return DueTick(at)
        case CatchUp.ALL:
            return DueTick(at, f"no engine was running; catch_up: all runs the newest {MAX_RUNS}")
        case CatchUp.LATEST if place == 0:
            return DueTick(at)
        case CatchUp.NONE if place == 0 and at >= in_time_from:
            return DueTick(at)
    return DueTick(at, f"no engine was running; catch_up: {policy}")


def _rest(older: Iterator[datetime], since: datetime) -> list[DueTick]:
    newest = next(older, None)
    if newest is None:
        return []
    reason = f"no engine was running; stands for all ticks after {since.isoformat()} up to this one"
    return [DueTick(newest, reason)]

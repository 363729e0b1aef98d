"""What becomes of the due ticks of a schedule: pure, so that years of them can be tried in a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from service.clocks.timetable import Timetable, TimetableError

GRACE = timedelta(seconds=60)  # a tick this late is still in time: engines restart, threads wait
MAX_RUNS = 100  # the most ticks that `catch_up: all` runs at once, where it names no number
MAX_ROWS = 1000  # the most ticks that get a row each, where no more are to run; older ones share one


class Policy(StrEnum):
    """What happens to ticks that fell due while no engine was there."""

    NONE = "none"  # they are recorded as missed
    LATEST = "latest"  # the newest runs, the others are recorded as missed
    ALL = "all"  # the newest run, up to a bound


@dataclass(frozen=True, slots=True)
class CatchUp:
    """A policy, and the most ticks that it runs at once."""

    policy: Policy = Policy.LATEST
    most: int = MAX_RUNS

    @classmethod
    def parse(cls, value: object, default: Policy = Policy.LATEST) -> CatchUp:
        """Read a trigger's `catch_up`: none, latest, all, or {all: 500}. In Mage the newest runs."""
        if value is None:
            return cls(default)
        if isinstance(value, Mapping) and set(value) == {"all"}:
            return cls(Policy.ALL, int(value["all"]))
        try:
            return cls(Policy(str(value).lower()))
        except ValueError:
            raise TimetableError(
                f"`catch_up` is {value!r}; it may be none, latest, all or {{all: 500}}"
            ) from None


@dataclass(frozen=True, slots=True)
class DueTick:
    """One due moment, and why it is missed; None when it is to run.

    A `key` tells it from others where its moment cannot: engines that see it at different moments must agree.
    """

    at: datetime
    missed: str | None = None
    key: str | None = None


def due_ticks(
    timetable: Timetable, catch_up: CatchUp, *, since: datetime, now: datetime, grace: timedelta = GRACE
) -> list[DueTick]:
    """Decide on every tick after `since` up to `now`, ascending.

    Of a very long outage the oldest ticks are one entry, at the last of them, that names their span.
    """
    newest_first = timetable.due(since, now)
    decided = [
        _decide(place, at, catch_up, now - grace)
        for place, at in enumerate(islice(newest_first, max(MAX_ROWS, catch_up.most)))
    ]
    return [*_rest(newest_first, since), *reversed(decided)]


def _decide(place: int, at: datetime, catch_up: CatchUp, in_time_from: datetime) -> DueTick:
    match catch_up.policy:
        case Policy.ALL if place < catch_up.most:
            return DueTick(at)
        case Policy.ALL:
            return DueTick(at, f"no engine was running; catch_up: all runs the newest {catch_up.most}")
        case Policy.LATEST if place == 0:
            return DueTick(at)
        case Policy.NONE if place == 0 and at >= in_time_from:
            return DueTick(at)
    return DueTick(at, f"no engine was running; catch_up: {catch_up.policy}")


def _rest(older: Iterator[datetime], since: datetime) -> list[DueTick]:
    newest = next(older, None)
    if newest is None:
        return []
    reason = f"no engine was running; stands for all ticks after {since.isoformat()} up to this one"
    return [DueTick(newest, reason)]

"""Global data products: outputs of a pipeline that others use, made again only when they are too old."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

PRODUCTS_FILE = "global_data_products.yaml"

_DAYS_IN_WEEK = 7
_MONTHS_IN_YEAR = 12
_SPANS = ("seconds", "minutes", "hours", "days", "weeks")
AGES = (*_SPANS, "months", "years")  # the units of `outdated_after`

# What `outdated_starting_at` may name: from when on, in UTC, a product that is old enough counts as outdated.
MOMENTS: Mapping[str, Callable[[datetime], int]] = {
    "second_of_minute": lambda now: now.second,
    "minute_of_hour": lambda now: now.minute,
    "hour_of_day": lambda now: now.hour,
    "day_of_week": lambda now: now.isoweekday() % _DAYS_IN_WEEK,  # Sunday is 0, as in cron
    "day_of_month": lambda now: now.day,
    "day_of_year": lambda now: now.timetuple().tm_yday,
    "week_of_month": lambda now: (now.day + now.replace(day=1).weekday() - 1) // _DAYS_IN_WEEK + 1,
    "week_of_year": lambda now: now.isocalendar().week,
    "month_of_year": lambda now: now.month,
}


@dataclass(frozen=True, slots=True)
class Product:
    """One entry of the project's `global_data_products.yaml`, with what a block says in its place."""

    uuid: str
    object_type: str  # "pipeline" or "block"
    object_uuid: str
    pipeline: str = ""  # of a block that several pipelines have
    outdated_after: Mapping[str, int] = field(default_factory=dict)  # by the units of AGES; empty: at once
    outdated_starting_at: Mapping[str, int] = field(default_factory=dict)  # by the names of MOMENTS
    partitions: Mapping[str, int] = field(default_factory=dict)  # block -> how many of its newest outputs
    line: int = field(default=1, compare=False)

    def is_fresh(self, made_at: datetime, now: datetime) -> bool:
        """Say whether what was finished at `made_at` can be used as it is. Times are aware."""
        if now < _later(made_at.astimezone(UTC), self.outdated_after):
            return True
        now = now.astimezone(UTC)
        return any(MOMENTS[name](now) < value for name, value in self.outdated_starting_at.items())

    def as_plain(self) -> dict[str, Any]:
        """Return what JSON can hold, for `from_plain`."""
        return {
            "uuid": self.uuid,
            "object_type": self.object_type,
            "object_uuid": self.object_uuid,
            "pipeline": self.pipeline,
            "outdated_after": dict(self.outdated_after),
            "outdated_starting_at": dict(self.outdated_starting_at),
            "partitions": dict(self.partitions),
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Product:
        return cls(**values)


def _later(moment: datetime, age: Mapping[str, int]) -> datetime:
    """Return the moment that much later; a 31st becomes the last day of a shorter month."""
    months = age.get("months", 0) + _MONTHS_IN_YEAR * age.get("years", 0)
    span = timedelta(**{unit: age[unit] for unit in _SPANS if unit in age})
    year, month = divmod(moment.year * _MONTHS_IN_YEAR + moment.month - 1 + months, _MONTHS_IN_YEAR)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day) + span

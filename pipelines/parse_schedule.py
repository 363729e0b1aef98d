"""Checks the times in a trigger: cron expressions, steps, time zones, moments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipelines.cron_names import WITHOUT_EXPRESSION, cron_text
from pipelines.parse_fields import Section, duration_seconds
from pipelines.values import plain

_CATCH_UP = ("none", "latest", "all")
MOST_CAUGHT_UP = 10_000  # ticks that `catch_up: {all: N}` may run at once
_A_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def check_schedule(section: Section) -> None:
    """Report a schedule that has no cron and no step, both, or wrong ones."""
    if ("cron" in section) == ("every" in section):
        section.error(
            "cron" if "cron" in section else "type", "a schedule needs `cron` or `every`, and not both"
        )
    check_times(section)
    if section.text("cron") in WITHOUT_EXPRESSION and "catch_up" in section:
        section.warning("catch_up", f"{section.text('cron')} misses no ticks; `catch_up` has no effect")


def check_times(section: Section) -> None:
    """Report what is wrong with the keys that say when something is due."""
    check_cron(section, "cron")
    check_every(section)
    check_zone(section)
    check_catch_up(section)


def schedule_times(section: Section) -> dict[str, str]:
    """Return the moments between which a schedule is due, in their normal form."""
    moments = {key: check_time(section, key) for key in ("start", "end")}
    start, end = moments["start"], moments["end"]
    if start is not None and end is not None and _moment(end) < _moment(start):
        section.error("end", "`end` is before `start`; the schedule would never be due")
    return {key: moment for key, moment in moments.items() if moment is not None}


def check_catch_up(section: Section) -> None:
    """Report a `catch_up` that is no policy, and no mapping of `all` to a number of ticks."""
    value = section.get("catch_up", "latest")
    if isinstance(value, Mapping):
        bound = section.section("catch_up", f"{section.what}, catch_up")
        bound.unknown_keys("catch_up", ("all",))
        most = bound.count("all", least=1)
        if "all" not in bound:
            bound.error("all", "write `catch_up: {all: 500}`: how many ticks may run at once")
        elif most is not None and most > MOST_CAUGHT_UP:
            bound.error("all", f"at most {MOST_CAUGHT_UP} ticks may run at once")
    elif section.text("catch_up", "latest") not in _CATCH_UP:
        section.error("catch_up", f"`catch_up` must be one of {', '.join(_CATCH_UP)}, or {{all: 500}}")


def check_cron(section: Section, key: str, expression: str | None = None) -> None:
    """Report an expression that cannot be read: that under `key`, or what it stands for."""
    text = cron_text(section.text(key)) if expression is None else expression
    if key not in section or text in WITHOUT_EXPRESSION:
        return
    try:
        next(CronSim(text, _A_MOMENT))
    except (CronSimError, StopIteration) as error:
        reason = str(error) or "it is never due"
        section.error(
            key, f"the cron expression '{text}' is wrong: {reason}; write minute hour day month weekday"
        )


def check_every(section: Section) -> None:
    if "every" not in section:
        return
    try:
        if duration_seconds(section.get("every")) < 1:
            section.error("every", "`every` is too short; the shortest step is 1s")
    except ValueError as error:
        section.error("every", f"`every`: {error}")


def check_span(section: Section, key: str) -> None:
    """Report what is no span of time, such as 90s or 5m."""
    if key not in section:
        return
    try:
        duration_seconds(section.get(key))
    except ValueError as error:
        section.error(key, f"`{key}`: {error}")


def check_zone(section: Section) -> None:
    name = section.text("timezone", "UTC")
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        section.error(
            "timezone", f"the time zone '{name}' is unknown; write one such as UTC or Europe/Berlin"
        )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def check_time(section: Section, key: str) -> str | None:
    """Return the moment under `key` as ISO text in UTC, or None when there is none."""
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        section.error(key, f"`{key}` must be a time such as 2024-01-31T05:00:00Z, not {str(value)[:40]!r}")
        return None
    return str(plain(moment))

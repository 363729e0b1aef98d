"""Checks the times in a trigger: cron expressions, steps, time zones, moments."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipelines.parse_fields import Section, duration_seconds
from pipelines.values import plain

_CATCH_UP = ("none", "latest", "all")
_A_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def check_schedule(section: Section) -> None:
    """Report a schedule that has no cron and no step, both, or wrong ones."""
    if ("cron" in section) == ("every" in section):
        section.error(
            "cron" if "cron" in section else "type", "a schedule needs `cron` or `every`, and not both"
        )
    check_cron(section, "cron")
    check_every(section)
    check_zone(section)
    if section.text("catch_up", "latest") not in _CATCH_UP:
        section.error("catch_up", f"`catch_up` must be one of {', '.join(_CATCH_UP)}")


def check_cron(section: Section, key: str) -> None:
    if key not in section:
        return
    text = section.text(key)
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

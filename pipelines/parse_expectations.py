"""Reads `type: expectation`: which events must have come by a time, how many, and how large together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipelines.cron_names import WITHOUT_EXPRESSION
from pipelines.parse_fields import Section, words
from pipelines.parse_schedule import check_cron, check_times, schedule_times
from pipelines.parse_templates import TRIGGER_NAMES, check_single

EXPECTATION_KEYS = words("expect by days cron every timezone within count size catch_up start end")
_EXPECT_KEYS = words("event source trigger filter")

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]?)(i?)b?)", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def check_expectation(section: Section, name: str) -> dict[str, Any]:
    """Report what is wrong with an expectation; return its keys in their normal form."""
    _check_expect(section)
    section.count("count", least=1)
    section.seconds("within")
    cron = _deadline(section)
    check_times(section)
    return {**schedule_times(section), "cron": cron or section.get("cron"), "size": _size(section)}


def size_bytes(value: object) -> int:
    """Return the bytes of `4096`, `"500kB"`, `"1GB"` (10 to the 9th), `"1GiB"`. Raises ValueError."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is no size; write bytes, or text such as 500MB, 1GB, 1GiB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWER[unit.lower()])


def _check_expect(section: Section) -> None:
    if not isinstance(section.get("expect"), Mapping):
        section.error(
            "expect", "it needs `expect`: {event: ..., source: ..., trigger: ...}, at least one of them"
        )
        return
    expect = section.section("expect", f"{section.what}, expect")
    expect.unknown_keys("expect", _EXPECT_KEYS)
    if not any(expect.text(key) for key in ("event", "source", "trigger")):
        section.error("expect", "`expect` needs one of `event`, `source` and `trigger`")
    check_single(expect, "filter", TRIGGER_NAMES)


def _deadline(section: Section) -> str | None:
    """Return the expression that `by` and `days` stand for; None when the deadlines are written otherwise."""
    if sum(key in section for key in ("by", "cron", "every")) != 1:
        section.error("expect", "an expectation needs `by`, `cron` or `every`, and only one of them")
    if section.text("cron") in WITHOUT_EXPRESSION:
        section.error(
            "cron", f"{section.text('cron')} has no deadlines; write `by`, a cron expression or `every`"
        )
    if "by" not in section:
        if "days" in section:
            section.error("days", "`days` goes with `by`, the time of the day")
        return None
    clock = _CLOCK.fullmatch(section.text("by"))
    if clock is None:
        section.error("by", '`by` must be a time of the day in quotes, such as "07:00"')
        return None
    cron = f"{int(clock[2])} {int(clock[1])} * * {section.text('days') or '*'}"
    check_cron(section, "by", cron)
    return cron


def _size(section: Section) -> int | None:
    if "size" not in section:
        return None
    try:
        return size_bytes(section.get("size"))
    except ValueError as error:
        section.error("size", f"`size`: {error}")
        return None

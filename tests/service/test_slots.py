"""Ranges of time cut into slots: without gaps, without overlap, on the calendar of a zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.backfills.slots import MOST_SLOTS, Range, SlotError, Step, Unit, steps_of, ticks_of
from service.clocks.timetable import timetable_of

# Zones that change their clocks by an hour or by half of one, one that skipped a day, one at each end.
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]
).map(ZoneInfo)
STEPS = st.builds(Step, st.integers(1, 40), st.sampled_from(list(Unit)))
STARTS = st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1))
BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


def starts(start: str, end: str, every: str, zone: ZoneInfo = UTC_ZONE) -> list[str]:
    """Return the local times at which the slots begin."""
    span = Range.of(date.fromisoformat(start), date.fromisoformat(end), zone)
    found = steps_of(span, Step.parse(every), zone)
    return [slot.start.astimezone(zone).isoformat() for slot in found]


@settings(max_examples=300, deadline=None)
@given(STARTS, STEPS, ZONES, st.integers(0, 60))
def test_slots_follow_one_another_from_the_start_to_the_end(
    start: datetime, step: Step, zone: ZoneInfo, steps: int
) -> None:
    length = {"m": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2_600_000, "y": 31_000_000}[step.unit]
    end = start + timedelta(seconds=length * step.number * steps)
    span = Range.of(start, end, zone)

    slots = steps_of(span, step, zone)

    assert slots[0].start == span.start
    assert all(slot.start < slot.end for slot in slots)
    assert all(one.end == following.start for one, following in pairwise(slots))
    assert slots[-1].start <= span.last < slots[-1].end
    assert all(slot.start.tzinfo is UTC for slot in slots)


@settings(max_examples=200, deadline=None)
@given(STARTS, st.integers(1, 14), st.sampled_from([Unit.MONTHS, Unit.YEARS]))
def test_months_do_not_drift(start: datetime, number: int, unit: Unit) -> None:
    slots = steps_of(Range.of(start, start + timedelta(days=3000), UTC_ZONE), Step(number, unit), UTC_ZONE)

    for place, slot in enumerate(slots):
        months = place * number * (12 if unit is Unit.YEARS else 1)
        assert (slot.start.year - start.year) * 12 + slot.start.month - start.month == months
        is_short = (slot.start + timedelta(days=1)).month != slot.start.month
        assert slot.start.day == start.day or (slot.start.day < start.day and is_short)


def test_end_is_included() -> None:
    assert starts("2024-01-01", "2024-01-03", "1d") == [f"2024-01-0{day}T00:00:00+00:00" for day in (1, 2, 3)]
    assert len(starts("2024-01-01", "2024-01-02", "1h")) == 48  # the whole of the last day
    assert starts("2024-01-01", "2024-01-01", "1w") == ["2024-01-01T00:00:00+00:00"]


def test_month_ends_come_back_to_their_day() -> None:
    found = starts("2024-01-31", "2024-05-31", "1mo")

    assert [text[:10] for text in found] == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
        "2024-04-30",
        "2024-05-31",
    ]
    assert [text[:10] for text in starts("2024-02-29", "2028-12-31", "1y")] == [
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
        "2027-02-28",
        "2028-02-29",
    ]


def test_days_are_days_of_the_zone_and_hours_really_pass() -> None:
    days = starts("2024-03-30", "2024-04-01", "1d", BERLIN)
    hours = starts("2024-03-31", "2024-03-31", "1h", BERLIN)

    assert days == ["2024-03-30T00:00:00+01:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"]
    assert len(hours) == 23
    assert len(starts("2024-10-27", "2024-10-27", "1h", BERLIN)) == 25


def test_day_that_a_zone_skipped_is_no_slot() -> None:
    found = starts("2011-12-28", "2012-01-01", "1d", ZoneInfo("Pacific/Apia"))

    assert [text[:10] for text in found] == ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"]


def test_ticks_of_a_schedule_are_slots() -> None:
    timetable = timetable_of({"cron": "30 2 * * *", "timezone": "Europe/Berlin"})
    span = Range.of(date(2024, 3, 30), date(2024, 4, 1), BERLIN)

    slots = ticks_of(span, timetable)

    assert [slot.start.astimezone(BERLIN).isoformat() for slot in slots] == [
        "2024-03-30T02:30:00+01:00",
        "2024-03-31T03:00:00+02:00",
        "2024-04-01T02:30:00+02:00",
    ]
    assert all(one.end == following.start for one, following in pairwise(slots))
    assert slots[-1].end == datetime(2024, 4, 2, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "1", "d", "0d", "-1d", "1.5h", "1s", "1 fortnight", "1d2h", "9999999d"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(SlotError, match="is no step"):
        Step.parse(text)


def test_range_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(SlotError, match="is before the start"):
        Range.of(date(2024, 1, 2), date(2024, 1, 1), UTC_ZONE)
    with pytest.raises(SlotError, match=f"more than {MOST_SLOTS} slots"):
        starts("2024-01-01", "2024-02-01", "1m")
    with pytest.raises(SlotError, match="not within the years"):
        Range.of(date(2024, 1, 2), date(9999, 12, 31), UTC_ZONE)
    with pytest.raises(SlotError, match="not within the years"):
        Range.of(date(1, 1, 1), date(2024, 1, 1), ZoneInfo("Asia/Tokyo"))
    with pytest.raises(SlotError, match="leads beyond the year"):
        starts("2024-01-01", "2024-01-01", "99999y")

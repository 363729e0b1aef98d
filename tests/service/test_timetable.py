from __future__ import annotations

import random
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from pipelines.model import Trigger, TriggerType
from service.clocks.preview import upcoming
from service.clocks.timetable import Cron, Every, TimetableError, TimetableTrigger, duration, timetable_of

NEW_YORK = "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(spec: dict[str, str], since: str, until: str) -> list[str]:
    until_moment = utc(until)
    found = takewhile(lambda due: due <= until_moment, timetable_of(spec).after(utc(since)))
    return [due.strftime("%m-%d %H:%M") for due in found]


def test_time_in_the_spring_gap_is_due_at_the_first_moment_after_it() -> None:
    spec = {"cron": "30 2 * * *", "timezone": NEW_YORK}

    # 02:30 does not exist on March 8; 03:00 summer time is 07:00 UTC.
    assert ticks(spec, "2026-03-07 12:00", "2026-03-09 12:00") == ["03-08 07:00", "03-09 06:30"]


def test_time_that_comes_twice_in_autumn_is_due_once() -> None:
    spec = {"cron": "30 1 * * *", "timezone": NEW_YORK}

    assert ticks(spec, "2026-10-31 12:00", "2026-11-02 12:00") == ["11-01 05:30", "11-02 06:30"]


def test_engine_started_within_the_doubled_hour_does_not_see_the_tick_again() -> None:
    spec = {"cron": "30 1 * * *", "timezone": NEW_YORK}

    assert ticks(spec, "2026-11-01 06:10", "2026-11-02 12:00") == ["11-02 06:30"]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_every_real_hour_has_its_tick(day: str, hours: int) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(NEW_YORK))
    end = start + timedelta(days=1)  # the next local midnight

    found = list(
        timetable_of({"cron": "0 * * * *", "timezone": NEW_YORK}).due(
            start.astimezone(UTC), end.astimezone(UTC)
        )
    )

    assert len(found) == hours


def test_sunday_is_zero_and_seven() -> None:
    for number in ("0", "7"):
        assert ticks({"cron": f"0 9 * * {number}"}, "2026-01-01", "2026-01-08") == ["01-04 09:00"]


def test_every_is_aligned_to_the_epoch() -> None:
    assert ticks({"every": "15m"}, "2026-01-01 00:01", "2026-01-01 00:50") == [
        "01-01 00:15",
        "01-01 00:30",
        "01-01 00:45",
    ]


def test_start_means_not_before_and_counts_itself() -> None:
    spec = {"every": "1h", "start": "2026-01-01T02:00:00Z"}

    assert ticks(spec, "2026-01-01 00:00", "2026-01-01 03:30") == ["01-01 02:00", "01-01 03:00"]


def test_end_means_not_after_and_counts_itself() -> None:
    spec = {"every": "1h", "end": "2026-01-01T02:00:00Z"}

    assert ticks(spec, "2026-01-01 00:00", "2026-01-02 00:00") == ["01-01 01:00", "01-01 02:00"]
    assert list(timetable_of(spec).due(utc("2026-01-01 01:00"), utc("2026-01-05"))) == [
        utc("2026-01-01 02:00")
    ]


def test_cron_that_no_library_gets_right_is_due_at_every_third_hour() -> None:
    spec = {
        "cron": "45 */3 * * *",
        "timezone": "Pacific/Chatham",
    }  # clocks at 45 minutes past, changed by one hour

    assert len(ticks(spec, "2026-04-03 12:00", "2026-04-06 12:00")) == 24


@pytest.mark.parametrize(
    ("zone", "day", "sentence"),
    [
        (NEW_YORK, "2026-03-08", "clocks go forward 60 min at 02:00"),
        (NEW_YORK, "2026-03-09", None),
        (NEW_YORK, "2026-11-01", "clocks go back 60 min at 02:00"),
        ("Australia/Lord_Howe", "2026-04-05", "clocks go back 30 min at 02:00"),
        ("Africa/Cairo", "2026-04-24", "clocks go forward 60 min at 00:00"),
        ("UTC", "2026-03-08", None),
    ],
)
def test_days_on_which_the_clocks_are_changed_are_marked(zone: str, day: str, sentence: str | None) -> None:
    spec = {"cron": "0 12 * * *", "timezone": zone}
    noon = datetime.fromisoformat(f"{day} 12:00").replace(tzinfo=ZoneInfo(zone))

    preview = next(upcoming(Trigger("p", "t", TriggerType.SCHEDULE, spec), noon - timedelta(hours=1)))

    assert (preview.utc, preview.local, preview.clock_change) == (noon, noon, sentence)


@pytest.mark.parametrize(
    "zone",
    [NEW_YORK, "Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Asia/Kolkata"],
)
@pytest.mark.parametrize("cron", ["30 1 * * *", "30 2 * * *", "15 */2 * * *", "0 0 * * *"])
def test_series_does_not_depend_on_where_one_starts_to_look(zone: str, cron: str) -> None:
    timetable = Cron(cron, ZoneInfo(zone))
    dice = random.Random(f"{zone} {cron}")
    start, end = utc("2026-01-01"), utc("2027-01-01")
    series = list(takewhile(lambda due: due < end, timetable.after(start)))
    changes = [day for day in _days(start, end) if _changes_its_offset(day, zone)]

    for _ in range(40):
        moment = dice.choice(changes or [start]) + timedelta(seconds=dice.randrange(36 * 3600))
        expected = series[bisect_right(series, moment)]
        assert timetable.next(moment) == expected


def test_due_gives_the_same_series_from_the_newest() -> None:
    timetable = Cron("15 */2 * * *", ZoneInfo("Australia/Lord_Howe"))
    since, until = utc("2026-03-01"), utc("2026-11-15")

    forward = list(takewhile(lambda due: due <= until, timetable.after(since)))

    assert list(timetable.due(since, until)) == forward[::-1]


def test_newest_of_a_very_long_outage_is_found_at_once() -> None:
    newest = list(islice(Every(timedelta(seconds=1)).due(utc("1990-01-01"), utc("2026-01-01")), 2))

    assert newest == [utc("2026-01-01 00:00:00"), utc("2025-12-31 23:59:59")]


def test_late_fire_does_not_enumerate_what_was_missed() -> None:
    trigger = TimetableTrigger(Every(timedelta(minutes=1)))

    due = trigger.get_next_fire_time(utc("2026-01-01 00:00"), utc("2026-01-08 00:00:30"))

    assert due == utc("2026-01-08 00:01")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("1h 30m", 5400), ("1d", 86400), (45, 45), ("2w", 1209600)],
)
def test_duration(text: str | int, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({}, "`cron` or `every`"),
        ({"every": "soon"}, "soon"),
        ({"every": "0.1s"}, "shortest"),
        ({"cron": "61 * * * *"}, "minute"),
        ({"cron": "0 5 * * *", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"every": "1m", "start": "tomorrow"}, "tomorrow"),
    ],
)
def test_times_that_make_no_sense_are_explained(spec: dict[str, str], word: str) -> None:
    with pytest.raises(TimetableError, match=word):
        timetable_of(spec)


def _days(start: datetime, end: datetime) -> list[datetime]:
    return [start + timedelta(days=day) for day in range((end - start).days)]


def _changes_its_offset(day: datetime, zone: str) -> bool:
    there = ZoneInfo(zone)
    return day.astimezone(there).utcoffset() != (day + timedelta(days=1)).astimezone(there).utcoffset()

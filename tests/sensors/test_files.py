"""What is peculiar to the files sensor."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import sensors.files
from sensors.base import Cursor, Existing, ExistingRule, OptionsError, SensorError, TickContext
from sensors.event import Event
from sensors.files import FilesSensor, glob_pattern


def tick(
    folder: Path, cursor: Cursor = None, *, now: datetime | None = None, **options: Any
) -> tuple[list[Event], Cursor]:
    sensor = FilesSensor.configure({"path": "inbox", **options})
    context = TickContext(
        source="files:taxi/landed",
        now=now or datetime.now(UTC),
        root=folder,
        existing=Existing(ExistingRule.TRIGGER),
    )
    events: list[Event] = []
    for page in sensor.tick(cursor, context):
        events += page.events
        cursor = page.cursor
    return events, cursor


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "sub/a.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "2024/01/a.csv", True),
        ("2024/*/a.csv", "2024/01/a.csv", True),
        ("2024/*/a.csv", "2024/01/02/a.csv", False),
        ("green_????-??.csv.gz", "green_2020-10.csv.gz", True),
        ("[!._]*.csv", "_a.csv", False),
        ("[ab].csv", "b.csv", True),
        ("a+b(1).csv", "a+b(1).csv", True),
        ("a+b(1).csv", "aab1.csv", False),
        ("2024/**", "2024/01/a.csv", True),
        ("2024/**", "2023/a.csv", False),
        ("**", "2024/01/a.csv", True),
        ("[[]x", "[x", True),
    ],
)
def test_glob(glob: str, path: str, fits: bool) -> None:
    assert bool(glob_pattern(glob).fullmatch(path)) is fits


def test_a_pattern_that_is_none_is_an_error_of_the_options() -> None:
    with pytest.raises(OptionsError, match=r"'pattern': .*'\[z-a\]' is no pattern"):
        FilesSensor.configure({"path": "inbox", "pattern": "[z-a]"})


@pytest.mark.parametrize("stamp", [-(10**20), 10**21])
def test_a_time_stamp_beyond_the_calendar_stops_no_tick(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, stamp: int
) -> None:
    found = sensors.files._Found("a.csv", 1, stamp, stamp, 1)
    monkeypatch.setattr(FilesSensor, "_list", lambda sensor, folder: iter([found]))

    (event,), _ = tick(inbox.parent)

    assert event.time.year in (1, 9999)


def test_event_tells_path_size_and_time(inbox: Path) -> None:
    file = inbox / "month.csv"
    file.write_text("12345")
    os.utime(file, ns=(0, 1_600_000_000_123_456_789))

    (event,), _ = tick(inbox.parent)

    assert event.key == f"{file}#5:1600000000123456789"
    assert event.subject == "month.csv"
    assert event.data == {
        "path": str(file),
        "name": "month.csv",
        "size": 5,
        "modified": "2020-09-13T12:26:40.123456Z",
        "modified_ns": 1_600_000_000_123_456_789,
    }


def test_half_written_and_hidden_files_are_left_alone(inbox: Path) -> None:
    for name in ("a.csv", ".hidden", "b.csv.tmp", "c.csv.part"):
        (inbox / name).write_text("1")
    (inbox / ".git").mkdir()
    (inbox / ".git" / "config").write_text("1")

    events, _ = tick(inbox.parent, pattern="**/*")

    assert [event.subject for event in events] == ["a.csv"]


def test_same_size_and_stamp_but_other_content_is_found_by_hash(inbox: Path) -> None:
    file = inbox / "a.csv"
    file.write_text("1")
    os.utime(file, ns=(0, 10**18))
    before, cursor = tick(inbox.parent, hash=True)

    file.write_text("2")
    os.utime(file, ns=(0, 10**18))
    after, _ = tick(inbox.parent, cursor, hash=True)

    assert before[0].key != after[0].key


def test_hashed_files_are_read_again_until_their_clock_granule_has_passed(inbox: Path) -> None:
    (inbox / "a.csv").write_text("1")
    now = datetime.now(UTC)

    _, cursor = tick(inbox.parent, now=now, hash=True)
    again, cursor = tick(inbox.parent, cursor, now=now + timedelta(minutes=1), hash=True)
    settled, _ = tick(inbox.parent, cursor, now=now + timedelta(minutes=2), hash=True)

    assert len(again) == 1
    assert settled == []


def test_name_that_is_not_utf8_is_reported_with_escapes(inbox: Path) -> None:
    descriptor = os.open(os.fsencode(inbox) + b"/caf\xe9.csv", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)

    (event,), _ = tick(inbox.parent)

    assert event.subject == "caf\\xe9.csv"


def test_link_that_leads_round_in_a_circle_is_not_followed(inbox: Path) -> None:
    (inbox / "sub").mkdir()
    (inbox / "sub" / "round").symlink_to(inbox)
    (inbox / "sub" / "a.csv").write_text("1")

    events, _ = tick(inbox.parent, pattern="**/*.csv")

    assert [event.subject for event in events] == ["sub/a.csv"]


def test_dangling_link_is_no_file(inbox: Path) -> None:
    (inbox / "a.csv").symlink_to(inbox / "nowhere")

    events, _ = tick(inbox.parent)

    assert events == []


def test_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match=r"inbox does not exist; create it"):
        tick(tmp_path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Existing()),
        ("ignore", Existing()),
        ("trigger", Existing(ExistingRule.TRIGGER)),
        ({"since": "2024-01-31"}, Existing(ExistingRule.SINCE, datetime(2024, 1, 31, tzinfo=UTC))),
        ("since: 2024-01-31T12:00:00Z", Existing(ExistingRule.SINCE, datetime(2024, 1, 31, 12, tzinfo=UTC))),
    ],
)
def test_existing_is_read_in_all_its_spellings(value: object, expected: Existing) -> None:
    assert Existing.parse(value) == expected


@pytest.mark.parametrize("value", ["sometimes", {"since": "yesterday"}, 7])
def test_existing_that_cannot_be_read_is_explained(value: object) -> None:
    with pytest.raises(ValueError, match="existing"):
        Existing.parse(value)

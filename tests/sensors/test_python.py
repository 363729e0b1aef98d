"""What is peculiar to the python sensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sensors.base import Cursor, Existing, ExistingRule, SensorError, TickContext
from sensors.event import Event
from sensors.python import PythonSensor

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


@dataclass
class Project:
    root: Path
    cursor: Cursor = None
    existing: Existing = field(default_factory=lambda: Existing(ExistingRule.TRIGGER))

    def write(self, code: str, name: str = "mine.py") -> None:
        folder = self.root / "sensors"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(code)

    def tick(self, **options: Any) -> list[Event]:
        found: list[Event] = []
        sensor = PythonSensor.configure({"path": "sensors/mine.py", **options})
        for page in sensor.tick(self.cursor, TickContext("python:a/b", NOW, self.root, self.existing)):
            found += page.events
            self.cursor = page.cursor
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_function_gets_its_cursor_and_its_options(project: Project) -> None:
    project.write(
        "def poll(cursor, step):\n    yield {'key': f'{cursor}+{step}'}\n    return (cursor or 0) + step\n"
    )

    keys = [event.key for _ in range(3) for event in project.tick(step=2)]

    assert keys == ["None+2", "2+2", "4+2"]


def test_event_has_what_the_function_says(project: Project) -> None:
    project.write(
        "from datetime import date\n"
        "from decimal import Decimal\n"
        "def poll(cursor):\n"
        "    yield {'key': 7, 'subject': 's', 'type': 'order.paid', 'time': '2024-05-01T10:00:00+02:00',\n"
        "           'data': {'day': date(2024, 5, 1), 'price': Decimal('1.50')}}\n"
    )

    (event,) = project.tick()

    assert event == Event(
        source="python:a/b",
        key="7",
        type="order.paid",
        time=datetime(2024, 5, 1, 8, tzinfo=UTC),
        subject="s",
        data={"day": "2024-05-01", "price": "1.50"},
    )


def test_function_may_yield_cursors_between_its_events(project: Project) -> None:
    project.write(
        "def poll(cursor):\n"
        "    for number in range(cursor or 0, 3):\n"
        "        yield {'key': number}\n"
        "        yield {'cursor': number + 1}\n"
    )
    sensor = PythonSensor.configure({"path": "sensors/mine.py"})
    pages = sensor.tick(None, TickContext("python:a/b", NOW, project.root, project.existing))
    next(pages)
    project.cursor = next(pages).cursor

    assert [event.key for event in project.tick()] == ["2"]


def test_function_may_return_a_list(project: Project) -> None:
    project.write("def poll(cursor):\n    return [{'key': 'a'}, {'key': 'b'}]\n")

    assert [event.key for event in project.tick()] == ["a", "b"]


def test_changed_file_counts_at_once(project: Project) -> None:
    project.write("def poll(cursor):\n    yield {'key': 'old'}\n")
    project.tick()
    project.write("def poll(cursor):\n    yield {'key': 'new'}\n")

    assert [event.key for event in project.tick()] == ["new"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def poll(cursor):\n    yield 1 / 0\n", r"sensors/mine.py:2, in poll: ZeroDivisionError"),
        ("def poll(cursor):\n    return 1 / 0\n", r"sensors/mine.py:2, in poll: ZeroDivisionError"),
        ("import nowhere\n", r"sensors/mine.py:1, in <module>: ModuleNotFoundError"),
        ("def poll(cursor:\n", r"sensors/mine.py:1: "),
        ("def poll(cursor):\n    raise SystemExit\n    yield\n", r"sensors/mine.py:2, in poll: SystemExit"),
        ("def pool(cursor): ...\n", "has no function 'poll'; write `def poll"),
        ("async def poll(cursor): ...\n", "has no function 'poll'"),
        ("def poll(cursor): ...\n", "returned nothing; it must yield events"),
        ("def poll(cursor):\n    yield 'a'\n", "yielded a value of type str"),
        ("def poll(cursor):\n    yield {'data': 1}\n", "yielded an event without a 'key'"),
        ("def poll(cursor):\n    yield {'key': 1, 'colour': 2}\n", r"with \['colour'\]"),
        ("def poll(cursor):\n    yield {'key': 1, 'time': 'soon'}\n", "'time' is 'soon', which is no time"),
        ("def poll(cursor):\n    yield {'cursor': {1}}\n", "cursor .* is not plain JSON"),
        ("def poll():\n    yield\n", "TypeError: poll"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(project: Project, code: str, sentence: str) -> None:
    project.write(code)

    with pytest.raises(SensorError, match=sentence):
        project.tick()


def test_error_deep_in_a_library_names_the_line_of_the_project(project: Project) -> None:
    project.write("import json\ndef poll(cursor):\n    json.loads('{')\n    yield\n")

    with pytest.raises(SensorError, match=r"sensors/mine\.py:3, in poll: JSONDecodeError"):
        project.tick()


@pytest.mark.parametrize("path", ["../outside.py", "/etc/passwd"])
def test_path_must_not_lead_out_of_the_project(project: Project, path: str) -> None:
    with pytest.raises(SensorError, match="leads out of the project"):
        project.tick(path=path)


def test_file_that_is_not_there_is_named(project: Project) -> None:
    with pytest.raises(SensorError, match=r"no file sensors/mine\.py; write it"):
        project.tick()

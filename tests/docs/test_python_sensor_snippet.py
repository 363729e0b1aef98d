"""The function on the page of the python sensor works as it stands there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from sensors.base import Existing, ExistingRule, TickContext
from sensors.python import PythonSensor
from tests.parts.http_site import HttpSite

PAGE = Path(__file__).parents[2] / "docs" / "events" / "python.md"


def test_function_of_the_page_reports_new_tickets(tmp_path: Path, http_site: HttpSite) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "tickets.py").write_text(code)
    tickets = [{"number": number, "title": f"t{number}"} for number in (1, 2)]
    http_site.serve("/urgent.json", json.dumps(tickets).encode())
    sensor = PythonSensor.configure({"path": "tickets.py", "address": http_site.url, "queue": "urgent"})
    context = TickContext("python:a/b", datetime.now(UTC), tmp_path, Existing(ExistingRule.TRIGGER))

    first = list(sensor.tick(None, context))
    second = list(sensor.tick(first[-1].cursor, context))

    told = [(event.key, event.subject) for page in first for event in page.events]
    assert told == [("1", "t1"), ("2", "t2")]
    assert not any(page.events for page in second)

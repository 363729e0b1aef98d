"""How long events are kept, as their triggers say it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.matching.retention import Ends, Lifetime, ends_of
from service.store.tables import events
from tests.parts.hooks import START, Hooks, running_hooks

DAY = timedelta(days=1)
SERVICE = Lifetime(30 * DAY, 365 * DAY)
HOOKS: list[dict[str, Any]] = [
    {
        "name": "hook",
        "type": "webhook",
        "verify": "none",
        "retention": {"payload": "7d", "events": "90d"},
        "filter": "{{ event.data.n > 0 }}",
    },
    {"name": "plain", "type": "webhook", "verify": "none"},
]


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    with running_hooks(tmp_path / "demo", HOOKS) as made:
        yield made


def ends(hooks: Hooks, event_id: str) -> tuple[datetime | None, datetime | None]:
    query = select(events.c.payload_until, events.c.keep_until).where(events.c.id == event_id)
    with hooks.runtime.database.read() as connection:
        payload_until, keep_until = connection.execute(query).one()
    return payload_until, keep_until


@pytest.mark.parametrize("number", [0, 1])
def test_event_gets_the_ends_its_trigger_wants(hooks: Hooks, number: int) -> None:
    answer = hooks.accept({"n": number})

    assert ends(hooks, answer["event_id"]) == (START + 7 * DAY, START + 90 * DAY)


def test_event_of_a_trigger_that_says_nothing_has_no_ends_of_its_own(hooks: Hooks) -> None:
    answer = hooks.accept({}, path="/webhooks/etl/plain")

    assert ends(hooks, answer["event_id"]) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([Lifetime(7 * DAY), Lifetime(9 * DAY, DAY)], Ends(START + 9 * DAY, START + 365 * DAY)),
        # Who says nothing relies on what the service keeps.
        ([Lifetime(7 * DAY), Lifetime()], Ends(START + 30 * DAY, None)),
        ([Lifetime(90 * DAY), Lifetime()], Ends(START + 90 * DAY, None)),
        ([Lifetime(), Lifetime()], Ends()),
        ([], Ends()),
    ],
)
def test_longest_life_counts(wanted: list[Lifetime], expected: Ends) -> None:
    assert ends_of(wanted, START, SERVICE) == expected


@pytest.mark.parametrize(
    ("retention", "problem"),
    [
        ({"payload": "soon"}, "`payload`: 'soon' is no span of time"),
        ({"data": "7d"}, "data"),
        ("7d", "retention"),
        ({}, "`retention` is empty"),
    ],
)
def test_wrong_retention_is_a_problem(tmp_path: Path, retention: Any, problem: str) -> None:
    hook = {"name": "hook", "type": "webhook", "verify": "none", "retention": retention}
    with running_hooks(tmp_path / "demo", [hook]) as hooks:
        problems = [str(found) for found in hooks.runtime.projects.default.problems]

    assert any(problem in found for found in problems), problems

"""Mage's two addresses, for triggers in Mage's `triggers.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.parts.hooks import Hooks, running_hooks

TOKEN = "0123456789abcdef0123456789abcdef"
MAGE: dict[str, Any] = {
    "schedule_type": "api",
    "start_time": None,
    "schedule_interval": None,
    "status": "active",
    "settings": {},
}
HOOKS: list[dict[str, Any]] = [
    {**MAGE, "name": "with_token", "token": TOKEN, "variables": {"color": "green", "limit": 1}},
    {**MAGE, "name": "without_token", "token": None},
    {**MAGE, "name": "inactive", "token": "f" * 32, "status": "inactive"},
]
BY_TOKEN = f"/api/pipeline_schedules/3/pipeline_runs/{TOKEN}"
BY_HEADER = "/api/pipeline_schedules/3/api_trigger"


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    with running_hooks(tmp_path / "demo", HOOKS) as made:
        yield made


def test_token_in_the_address_starts_a_run(hooks: Hooks) -> None:
    body = {
        "pipeline_run": {"variables": {"limit": 2}, "execution_date": "2024-01-05"},
        "color": "red",
        "other": [1],
    }

    answer = hooks.post(body, path=BY_TOKEN)

    assert answer.status_code == 200
    shown = answer.get_json()["pipeline_run"]
    run = hooks.run(shown["id"])
    assert shown["pipeline_uuid"] == "etl"
    assert shown["pipeline_schedule_id"] == 3
    assert shown["status"] == "initial"
    assert run.variables == {"color": "green", "limit": 2, "other": [1]}
    assert run.execution_date == datetime(2024, 1, 5, tzinfo=UTC)
    assert hooks.event(answer.get_json()["event_id"]).data == body


def test_token_as_a_bearer_starts_a_run(hooks: Hooks) -> None:
    answer = hooks.post(b"", path=BY_HEADER, headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 200
    assert hooks.run(answer.get_json()["pipeline_run"]["id"]).variables == {"color": "green", "limit": 1}


def test_trigger_without_a_token_gets_one(hooks: Hooks) -> None:
    path = f"/api/pipeline_schedules/9/pipeline_runs/{hooks.token('without_token')}"

    answer = hooks.post({}, path=path)

    assert hooks.run(answer.get_json()["run_ids"][0]).trigger == "without_token"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (BY_TOKEN[:-1] + "0", {}),
        ("/api/pipeline_schedules/3/pipeline_runs/" + "f" * 32, {}),
        (BY_HEADER, {}),
        (BY_HEADER, {"Authorization": "Bearer wrong"}),
        (BY_HEADER, {"Authorization": f"Basic {TOKEN}"}),
    ],
)
def test_other_tokens_are_refused_alike(hooks: Hooks, path: str, headers: dict[str, str]) -> None:
    answer = hooks.post({}, path=path, headers=headers)

    assert answer.status_code == 401
    assert answer.get_json(force=True)["detail"] == "The delivery could not be verified."
    assert hooks.refusals(1)[0].road == "mage:3"
    assert hooks.all_runs() == []


def test_token_is_not_stored_with_the_event(hooks: Hooks) -> None:
    answer = hooks.post({}, path=BY_TOKEN)

    assert TOKEN not in str(hooks.event(answer.get_json()["event_id"]))


def test_our_own_address_works_as_well(hooks: Hooks) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    assert hooks.post({}, path="/webhooks/etl/with_token", headers=headers).status_code == 202
    assert hooks.post({}, path="/webhooks/etl/with_token").status_code == 401

"""`?wait=`: the answer carries the finished run, and waiting never blocks accepting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.parts.hooks import Hooks, running_hooks
from tests.parts.waiting import wait_until

PATH = "/webhooks/etl/hook"


@pytest.fixture(params=["sqlite", "postgres"])
def hooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    trigger = {"name": "hook", "type": "webhook", "verify": "none"}
    with running_hooks(tmp_path / "demo", [trigger], database_url=url, wait_limit=1) as made:
        yield made


def waiting(hooks: Hooks, pool: ThreadPoolExecutor, key: str) -> Future[TestResponse]:
    """Post with `?wait=` on another thread, and return once the run is queued."""
    before = len(hooks.all_runs())
    answer = pool.submit(hooks.post, {}, f"{PATH}?wait=30", {"Idempotency-Key": key})
    wait_until(lambda: len(hooks.all_runs()) > before, what="the run is queued")
    return answer


def test_answer_comes_with_the_finished_run(hooks: Hooks) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = waiting(hooks, pool, "k")
        began = time.monotonic()
        hooks.finish_one()
        body = answer.result(10).get_json()

    assert time.monotonic() - began < 5
    assert answer.result().status_code == 200
    assert body["duplicate"] is False
    assert body["run"]["id"] == body["run_ids"][0]
    assert body["run"]["state"] == "succeeded"


def test_repeat_waits_for_the_original_run(hooks: Hooks) -> None:
    first = hooks.accept({}, headers={"Idempotency-Key": "k"})
    hooks.finish_one()

    answer = hooks.post({}, path=f"{PATH}?wait=5", headers={"Idempotency-Key": "k"})

    assert answer.status_code == 200
    assert answer.get_json()["duplicate"] is True
    assert answer.get_json()["run"]["id"] == first["run_ids"][0]


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", ""])
def test_wait_that_is_no_number_of_seconds_is_refused_and_noted(hooks: Hooks, wait: str) -> None:
    answer = hooks.post({}, path=f"{PATH}?wait={wait}")

    assert answer.status_code == 400
    assert "`wait`" in answer.get_json(force=True)["detail"]
    assert "`wait`" in hooks.refusals(1)[0].reason
    assert hooks.all_runs() == []


def test_run_that_takes_longer_is_accepted(hooks: Hooks) -> None:
    answer = hooks.post({}, path=f"{PATH}?wait=0.05")

    assert answer.status_code == 202
    assert "run" not in answer.get_json()


def test_requests_beyond_the_bound_do_not_wait(hooks: Hooks) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = waiting(hooks, pool, "k1")

        began = time.monotonic()
        second = hooks.post({}, path=f"{PATH}?wait=30")
        took = time.monotonic() - began

        hooks.finish_one()
        hooks.finish_one()
        assert first.result(10).status_code == 200

    assert second.status_code == 202
    assert took < 5

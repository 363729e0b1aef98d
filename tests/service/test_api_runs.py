from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store import runs
from service.store.session import Commit
from service.store.values import BlockState, LogLine, LogLines, RunState
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.site import Site, site

RUN_KEYS = {
    *("id", "pipeline", "state", "trigger", "event_id", "execution_date", "variables", "attempt"),
    *("created_at", "started_at", "finished_at", "error", "blocks"),
}
BLOCK_KEYS = {"name", "type", "state", "attempt", "started_at", "finished_at", "rows", "error"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path)
    one = BlockFile("one", "@custom\ndef one():\n    return 1\n")
    two = BlockFile("two", "@custom\ndef two(x):\n    return x\n", upstream=["one"])
    write_pipeline(
        tmp_path,
        "etl",
        [one, two],
        triggers=[open_webhook()],
        inputs={"day": {"type": "date", "required": True}},
    )
    write_pipeline(tmp_path, "free", [one], concurrency_config={"pipeline_run_limit": 1})
    with site(tmp_path) as made:
        yield made


def post(demo: Site, body: dict[str, Any], status: int = 201, **headers: str) -> Any:
    answer = demo.client.post("/api/v1/runs", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.get_json(force=True)


def get(demo: Site, path: str) -> Any:
    answer = demo.client.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_run_is_queued_with_its_variables_checked(demo: Site) -> None:
    run = post(
        demo,
        {
            "pipeline": "etl",
            "variables": {"day": "2024-01-31"},
            "execution_date": "2024-01-31T06:00:00+01:00",
        },
    )

    assert set(run) >= RUN_KEYS
    assert (run["state"], run["trigger"], run["variables"]) == ("queued", None, {"day": "2024-01-31"})
    assert run["execution_date"] == "2024-01-31T05:00:00Z"
    assert get(demo, f"/runs/{run['id']}") == run


def test_answer_says_where_the_run_is(demo: Site) -> None:
    answer = demo.client.post("/api/v1/runs", json={"pipeline": "free"})

    assert get(demo, answer.headers["Location"].removeprefix("/api/v1"))["id"] == answer.get_json()["id"]


def test_same_idempotency_key_gives_the_same_run(demo: Site) -> None:
    first = post(demo, {"pipeline": "free"}, **{"Idempotency-Key": "k"})
    again = post(demo, {"pipeline": "free"}, 200, **{"Idempotency-Key": "k"})
    other = post(demo, {"pipeline": "free", "blocks": ["one"]}, 409, **{"Idempotency-Key": "k"})

    assert again["id"] == first["id"]
    assert len(get(demo, "/runs")["items"]) == 1
    assert first["id"] in other["detail"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 422, "pipeline"),
        ({"pipeline": "nobody"}, 404, "nobody"),
        ({"pipeline": "free", "project": "nobody"}, 404, "nobody"),
        ({"pipeline": "free", "blocks": ["nine"]}, 422, "nine"),
        ({"pipeline": "etl"}, 422, "day"),
        ({"pipeline": "etl", "variables": {"day": "tomorrow"}}, 422, "day"),
        ({"pipeline": "free", "variables": []}, 422, "variables"),
        ({"pipeline": "free", "variable": {}}, 422, "variable"),
        ({"pipeline": "free", "execution_date": "soon"}, 422, "execution_date"),
    ],
)
def test_what_cannot_run_is_refused_with_a_sentence(
    demo: Site, body: dict[str, Any], status: int, word: str
) -> None:
    assert word in post(demo, body, status)["detail"]
    assert get(demo, "/runs")["items"] == []


def test_run_tells_how_each_block_went(demo: Site) -> None:
    run_id = demo.enqueue().id
    demo.finish(
        {"one": BlockState.SUCCEEDED, "two": BlockState.FAILED}, error="ValueError: no\n  at two.py:3"
    )

    run = get(demo, f"/runs/{run_id}")

    assert (run["state"], run["error"]) == ("failed", "ValueError: no\n  at two.py:3")
    assert all(set(block) >= BLOCK_KEYS for block in run["blocks"])
    assert [(block["name"], block["state"]) for block in run["blocks"]] == [
        ("one", "succeeded"),
        ("two", "failed"),
    ]


def test_pages_follow_each_other_without_gap_or_repeat(demo: Site) -> None:
    ids = [demo.enqueue().id for _ in range(5)]

    seen: list[str] = []
    cursor = ""
    while True:
        page = get(demo, f"/runs?limit=2{cursor}")
        seen += [run["id"] for run in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"

    assert seen == ids[::-1]


def test_runs_are_filtered(demo: Site) -> None:
    event = demo.record("a")
    failed = demo.finish({"one": BlockState.FAILED}, error="no")
    by_hand = demo.enqueue("free")

    def ids(query: str) -> list[str]:
        return [run["id"] for run in get(demo, f"/runs?{query}")["items"]]

    assert ids("state=failed") == [failed.id]
    assert ids("state=failed&state=queued") == [by_hand.id, failed.id]
    assert ids("trigger=hook") == ids(f"event_id={event.event_id}") == list(event.run_ids)
    assert ids("pipeline=free") == [by_hand.id]
    assert ids("project=other") == []
    assert ids("since=2000-01-01") == [by_hand.id, failed.id]
    assert ids("until=2000-01-01T00:00:00Z") == []


def test_queued_run_is_cancelled_at_once_and_only_once_over(demo: Site) -> None:
    run_id = demo.enqueue().id

    cancelled = demo.client.post(f"/api/v1/runs/{run_id}/cancel").get_json()

    assert cancelled["state"] == "cancelled"
    assert demo.client.post(f"/api/v1/runs/{run_id}/cancel").status_code == 200


def test_finished_run_cannot_be_cancelled(demo: Site) -> None:
    demo.enqueue()
    run = demo.finish({"one": BlockState.SUCCEEDED})

    answer = demo.client.post(f"/api/v1/runs/{run.id}/cancel")

    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"


def test_failed_run_is_retried_from_the_failed_block(demo: Site) -> None:
    demo.enqueue()
    run = demo.finish({"one": BlockState.SUCCEEDED, "two": BlockState.FAILED}, error="no")

    again = demo.client.post(f"/api/v1/runs/{run.id}/retry").get_json()

    assert (again["state"], again["attempt"], again["error"]) == ("queued", 2, None)
    assert [block["state"] for block in again["blocks"]] == ["succeeded", "queued"]
    assert demo.client.post(f"/api/v1/runs/{run.id}/retry").status_code == 409


def test_unknown_run_can_neither_be_cancelled_nor_retried(demo: Site) -> None:
    assert demo.client.post("/api/v1/runs/nothing/cancel").status_code == 404
    assert demo.client.post("/api/v1/runs/nothing/retry").status_code == 404


def test_logs_are_filtered_and_paged(demo: Site) -> None:
    demo.enqueue()
    run = write_log(demo)

    def texts(query: str) -> list[str]:
        return [line["text"] for line in get(demo, f"/runs/{run}/logs?{query}")["items"]]

    first = get(demo, f"/runs/{run}/logs?limit=2")
    assert [line["text"] for line in first["items"]] == ["loading", "odd value"]
    assert texts(f"cursor={first['next']}") == ["Traceback\n  no"]
    assert texts("level=warning") == ["odd value", "Traceback\n  no"]
    assert texts("block=two") == ["Traceback\n  no"]
    assert texts("contains=odd") == ["odd value"]


def write_log(demo: Site) -> str:
    """Play an engine that claims the run and logs three lines; return the run's id."""
    run = demo.claim(["one", "two"])
    lines = (
        LogLine(0, run.created_at, "info", "loading", "one"),
        LogLine(0, run.created_at, "warning", "odd value", "one"),
        LogLine(0, run.created_at, "error", "Traceback\n  no", "two"),
    )
    demo.runtime.database.write(
        Commit.REPORT, lambda tx: runs.apply(tx, [LogLines(run.id, run.claim, lines)])
    )
    return run.id


def test_running_run_is_asked_to_stop(demo: Site) -> None:
    demo.enqueue()
    run = demo.claim(["one"])

    answer = demo.client.post(f"/api/v1/runs/{run.id}/cancel").get_json()

    assert (answer["state"], answer["cancel_requested"]) == (RunState.RUNNING, True)

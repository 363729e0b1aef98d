from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.backfills.driver import Driver
from service.store.ids import new_id
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.site import Site, site

NIGHTLY = {"name": "nightly", "type": "schedule", "cron": "0 5 * * *"}
JANUARY = {"pipeline": "etl", "start": "2024-01-01", "end": "2024-01-31", "every": "1d"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path)
    block = BlockFile("one", "@custom\ndef one():\n    return 1\n")
    write_pipeline(tmp_path, "etl", [block], triggers=[open_webhook(), NIGHTLY])
    with site(tmp_path) as made:
        yield made


def post(demo: Site, path: str, body: Mapping[str, Any] | None = None, status: int = 200) -> Any:
    answer = demo.client.post(f"/api/v1/backfills{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.get_json(force=True)


def get(demo: Site, path: str) -> Any:
    answer = demo.client.get(f"/api/v1/backfills{path}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_preview_lists_every_slot_with_its_reason(demo: Site) -> None:
    demo.enqueue("etl", execution_date=datetime(2024, 1, 2, tzinfo=UTC))

    preview = post(demo, "/preview", JANUARY)

    assert preview["counts"] == {"run": 30, "skip": 1, "missing": 30, "in_flight": 1}
    assert (preview["runs"], preview["end_included"], len(preview["items"])) == (30, True, 31)
    assert preview["items"][0] == {
        "position": 0,
        "start": "2024-01-01T00:00:00Z",
        "end": "2024-01-02T00:00:00Z",
        "event_id": None,
        "status": "missing",
        "runs": True,
        "reason": "it has no run yet",
        "chunk": 1,
    }
    assert get(demo, "")["items"] == []


def test_list_that_was_looked_at_is_submitted_or_none(demo: Site) -> None:
    token = post(demo, "/preview", JANUARY)["token"]
    demo.enqueue("etl", execution_date=datetime(2024, 1, 2, tzinfo=UTC))

    refused = post(demo, "", {**JANUARY, "token": token}, 409)
    made = post(demo, "", {**JANUARY, "token": post(demo, "/preview", JANUARY)["token"]}, 201)

    assert "has changed since the preview" in refused["detail"]
    assert (made["state"], made["counts"]) == ("running", {"pending": 30, "skipped": 1})
    assert made["spec"]["every"] == "1d"


def test_backfill_is_followed_and_held(demo: Site) -> None:
    ident = post(demo, "", {**JANUARY, "concurrency": 2, "variables": {"a": 1}}, 201)["id"]
    Driver(demo.runtime, None).drive()  # type: ignore[arg-type]  # dates need no dispatcher

    slots = get(demo, f"/{ident}/slots?limit=3")
    assert [slot["state"] for slot in slots["items"]] == ["queued", "queued", "pending"]
    assert slots["next"] == "2"
    assert get(demo, f"/{ident}/slots?cursor=29")["next"] is None
    run = demo.client.get(f"/api/v1/runs/{slots['items'][0]['run_id']}").get_json()
    assert (run["execution_date"], run["variables"]) == ("2024-01-01T00:00:00Z", {"a": 1})
    assert post(demo, f"/{ident}/pause")["state"] == "paused"
    assert post(demo, f"/{ident}/resume")["state"] == "running"
    cancelled = post(demo, f"/{ident}/cancel")
    assert (cancelled["state"], cancelled["counts"]) == ("cancelled", {"cancelled": 31})
    assert post(demo, f"/{ident}/resume", status=409)["detail"].startswith("cannot resume the backfill")


def test_backfills_are_listed_by_pages_and_filters(demo: Site) -> None:
    days = [{**JANUARY, "start": f"2024-02-0{day}", "end": f"2024-02-0{day}"} for day in (1, 2, 3)]
    ids = [post(demo, "", day, 201)["id"] for day in days]
    post(demo, f"/{ids[1]}/cancel")

    first = get(demo, "?limit=2")

    assert [one["id"] for one in first["items"]] == ids[:0:-1]
    assert [one["id"] for one in get(demo, f"?cursor={first['next']}")["items"]] == ids[:1]
    assert [one["id"] for one in get(demo, "?state=cancelled&pipeline=etl")["items"]] == [ids[1]]
    assert get(demo, "?pipeline=other")["items"] == []


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"every": "1 fortnight"}, 422, "is no step"),
        ({"start": "yesterday"}, 422, "'yesterday' is not a date"),
        ({"end": None}, 422, "give `start` and `end`"),
        ({"events": True}, 422, "has no `start`"),
        ({"outcome": "ran"}, 422, "are for a backfill over events"),
        ({"trigger": "nope"}, 422, "no enabled trigger 'nope'"),
        ({"concurrency": 0}, 422, "`concurrency` must be from 1"),
        ({"chunk": 5000}, 422, "`chunk` must be from 1"),
        ({"stop_after": 10**30}, 422, "`limit` and `stop_after` must be from 1"),
        ({"variables": {"a": "\x00"}}, 422, "holds the character NUL"),
        ({"variables": {"a": ["\ud800"]}}, 422, "half of a surrogate pair"),
        ({"start": "0001-01-01"}, 422, "not within the years"),
        ({"order": "sideways"}, 422, "order"),
        ({"misspelt": 1}, 422, "misspelt"),
        ({"pipeline": "nope"}, 404, "no pipeline 'nope'"),
        ({"project": "nope"}, 404, "no project 'nope'"),
        ({"timezone": "../../etc/passwd"}, 422, "no time zone"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    demo: Site, changes: Mapping[str, Any], status: int, problem: str
) -> None:
    for path in ("", "/preview"):
        assert problem in post(demo, path, {**JANUARY, **changes}, status)["detail"]


def test_nothing_to_run_is_said(demo: Site) -> None:
    post(demo, "", JANUARY, 201)

    assert post(demo, "", JANUARY, 422)["detail"] == "nothing to run: 31 in_flight"


def test_events_are_previewed(demo: Site) -> None:
    event_id = demo.record("k", data="{}").event_id

    preview = post(demo, "/preview", {"pipeline": "etl", "trigger": "hook", "events": True})

    assert [(item["event_id"], item["status"]) for item in preview["items"]] == [(event_id, "in_flight")]
    assert preview["end_included"] is False


def test_unknown_backfill_is_not_found(demo: Site) -> None:
    for path in (f"/{new_id()}", "/x", f"/{new_id()}/slots"):
        assert demo.client.get(f"/api/v1/backfills{path}").status_code == 404
    post(demo, f"/{new_id()}/cancel", status=404)

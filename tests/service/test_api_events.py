from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store.values import Outcome
from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.site import Site, site

EVENT_KEYS = {
    *("id", "key", "source", "type", "subject", "time", "received_at", "outcome", "reason", "run_ids"),
    *("sightings", "replay_of", "data", "headers", "matches", "deliveries"),
}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path)
    write_pipeline(
        tmp_path, "etl", [BlockFile("one", "@custom\ndef one():\n    return 1\n")], triggers=[open_webhook()]
    )
    with site(tmp_path) as made:
        yield made


def get(demo: Site, path: str) -> Any:
    answer = demo.client.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_event_tells_what_arrived_and_what_became_of_it(demo: Site) -> None:
    recorded = demo.record("k-1", data='{"a": [1, null]}', headers={"user-agent": "x"})
    demo.record("k-1")

    event = get(demo, f"/events/{recorded.event_id}")

    assert set(event) >= EVENT_KEYS
    assert (event["key"], event["outcome"], event["data"]) == ("k-1", "ran", {"a": [1, None]})
    assert event["headers"] == {"user-agent": "x"}
    assert event["time"] == "2024-01-31T05:00:00Z"
    (match,) = event["matches"]
    assert (match["trigger"], match["outcome"], match["run_id"]) == ("hook", "ran", recorded.run_ids[0])
    assert event["run_ids"] == list(recorded.run_ids)
    assert [delivery["verdict"] for delivery in event["deliveries"]] == ["accepted", "duplicate"]
    assert event["sightings"] == 2


def test_sightings_are_the_same_in_the_list(demo: Site) -> None:
    demo.record("k-1")
    demo.record("k-1")

    assert [event["sightings"] for event in get(demo, "/events")["items"]] == [2]


def test_reason_of_a_filtered_event_is_told(demo: Site) -> None:
    recorded = demo.record("k", outcome=Outcome.FILTERED, match_reason="filter says no")

    (match,) = get(demo, f"/events/{recorded.event_id}")["matches"]

    assert match["reason"] == "filter says no"


def test_events_are_filtered_and_paged(demo: Site) -> None:
    ran = [demo.record(f"r{n}").event_id for n in range(3)]
    filtered = demo.record("f", outcome=Outcome.FILTERED).event_id

    def ids(query: str) -> list[str]:
        return [event["id"] for event in get(demo, f"/events?{query}")["items"]]

    first = get(demo, "/events?limit=2")
    assert [event["id"] for event in first["items"]] == [filtered, ran[2]]
    assert ids(f"cursor={first['next']}") == [ran[1], ran[0]]
    assert ids("outcome=filtered") == [filtered]
    assert ids("outcome=ran") == ran[::-1]
    assert ids("pipeline=etl&trigger=hook&source=webhook:etl/hook") == [filtered, *ran[::-1]]
    assert ids("trigger=other") == ids("project=other") == ids("until=2000-01-01") == []

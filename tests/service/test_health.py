from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.errors import StoreUnavailable
from service.store.session import Database
from service.store.values import BlockState, Outcome
from tests.parts.projects import write_project
from tests.parts.site import Site, site


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    with site(write_project(tmp_path)) as made:
        yield made


@pytest.fixture
def demo_on_postgres(tmp_path: Path, postgres_url: str) -> Iterator[Site]:
    with site(write_project(tmp_path), database_url=postgres_url) as made:
        yield made


def scrape(demo: Site) -> dict[tuple[str, str], float]:
    """Return the value of every sample by its name and its one label."""
    answer = demo.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_alive_without_looking_at_the_store(demo: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "read", gone)

    assert demo.client.get("/healthz").get_json() == {"status": "alive"}


def test_not_ready_while_no_engine_is_alive(demo: Site) -> None:
    answer = demo.client.get("/readyz")

    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert "millrace engine" in answer.get_json(force=True)["detail"]


def test_ready_with_an_engine_and_no_longer_when_it_falls_silent(demo: Site) -> None:
    demo.beat("one")
    assert demo.client.get("/readyz").status_code == 200

    demo.later(timedelta(minutes=1))
    assert demo.client.get("/readyz").status_code == 503


def test_not_ready_while_the_store_is_down(demo: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.beat("one")
    monkeypatch.setattr(Database, "read", gone)

    answer = demo.client.get("/readyz")

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_metrics_count_runs_and_events(demo: Site) -> None:
    demo.record("a")
    demo.record("b", outcome=Outcome.FILTERED)
    demo.enqueue()
    demo.finish({"one": BlockState.SUCCEEDED})

    values = scrape(demo)

    assert values["millrace_runs", "succeeded"] == 1
    assert values["millrace_runs", "queued"] == 1
    assert values["millrace_runs", "failed"] == 0
    assert values["millrace_events", "ran"] == 1
    assert values["millrace_events", "filtered"] == 1
    assert values["millrace_store_up", ""] == 1


def test_metrics_and_lists_are_the_same_on_postgres(demo_on_postgres: Site) -> None:
    demo_on_postgres.record("a")
    demo_on_postgres.record("a")
    demo_on_postgres.finish({"one": BlockState.SUCCEEDED})
    demo_on_postgres.beat("one")

    values = scrape(demo_on_postgres)

    assert (values["millrace_runs", "succeeded"], values["millrace_events", "ran"]) == (1, 1)
    assert demo_on_postgres.client.get("/readyz").status_code == 200
    (event,) = demo_on_postgres.client.get("/api/v1/events?outcome=ran").get_json()["items"]
    assert event["sightings"] == 2
    (run,) = demo_on_postgres.client.get("/api/v1/runs?state=succeeded").get_json()["items"]
    assert run["event_id"] == event["id"]


def test_metrics_tell_the_age_of_the_queue_and_of_heartbeats(demo: Site) -> None:
    assert scrape(demo)["millrace_queue_age_seconds", ""] == 0

    demo.enqueue()
    demo.beat("engine-1")
    demo.later(timedelta(seconds=90))

    values = scrape(demo)
    assert 90 <= values["millrace_queue_age_seconds", ""] < 120
    assert 90 <= values["millrace_engine_heartbeat_age_seconds", "engine-1"] < 120


def test_metrics_say_when_the_store_is_down(demo: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "read", gone)

    assert scrape(demo) == {("millrace_store_up", ""): 0}


def gone(database: Database) -> None:
    raise StoreUnavailable(database.name, "no such disk")

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.store.session import Database
from tests.parts.projects import BlockFile, open_webhook, write, write_pipeline, write_project
from tests.parts.site import Site, site

ONE = BlockFile("one", "@custom\ndef one():\n    return 1\n")
TWO = BlockFile("two", "@custom\ndef two(x):\n    return x\n", upstream=["one"])


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path / "demo")
    write_pipeline(
        tmp_path / "demo",
        "etl",
        [ONE, TWO],
        description="Moves things.",
        triggers=[
            {
                "name": "hook",
                "type": "webhook",
                "verify": {"scheme": "hmac", "secret": "in-the-file", "header": "X-Signature"},
            },
            {"name": "nightly", "type": "schedule", "cron": "0 5 * * *", "timezone": "Europe/Berlin"},
        ],
        inputs={"month": {"type": "date"}},
    )
    write_project(tmp_path / "second", name="second")
    write_pipeline(tmp_path / "second", "other", [ONE], triggers=[open_webhook()])
    with site(tmp_path / "demo", tmp_path / "second") as made:
        yield made


def get(demo: Site, path: str, status: int = 200) -> Any:
    answer = demo.client.get(f"/api/v1{path}")
    assert answer.status_code == status, answer.text
    return answer.get_json(force=True)


def test_project_names_its_pipelines_and_its_fellows(demo: Site) -> None:
    assert get(demo, "/project") | {"problems": []} == {
        "name": "demo",
        "default": True,
        "projects": ["demo", "second"],
        "pipelines": ["etl"],
        "problems": [],
    }
    assert get(demo, "/project?project=second")["pipelines"] == ["other"]


def test_project_lists_the_problems_of_its_files(demo: Site) -> None:
    write(demo.runtime.projects.default.root / "pipelines" / "broken" / "metadata.yaml", "blocks: [\n")
    demo.runtime.projects.refresh()

    (problem,) = [one for one in get(demo, "/project")["problems"] if one["severity"] == "error"]

    assert problem["file"] == "pipelines/broken/metadata.yaml"
    assert problem["line"] >= 1


def test_unknown_project_is_404(demo: Site) -> None:
    assert "second" in get(demo, "/project?project=third", 404)["detail"]


def test_pipelines_of_all_projects_are_listed(demo: Site) -> None:
    page = get(demo, "/pipelines")

    assert [(item["project"], item["name"]) for item in page["items"]] == [
        ("demo", "etl"),
        ("second", "other"),
    ]
    assert page["next"] is None
    assert [item["name"] for item in get(demo, "/pipelines?project=second")["items"]] == ["other"]


def test_pipeline_tells_its_blocks_and_inputs(demo: Site) -> None:
    pipeline = get(demo, "/pipelines/etl")

    assert [(block["name"], block["upstream"]) for block in pipeline["blocks"]] == [
        ("one", []),
        ("two", ["one"]),
    ]
    assert pipeline["inputs"][0] | {"description": "", "choices": []} == {
        "name": "month",
        "type": "date",
        "required": False,
        "default": None,
        "description": "",
        "choices": [],
    }
    assert [trigger["name"] for trigger in pipeline["triggers"]] == ["hook", "nightly"]


def test_unknown_pipeline_is_404_and_names_those_there_are(demo: Site) -> None:
    assert "it has: etl" in get(demo, "/pipelines/elt", 404)["detail"]


def test_trigger_tells_when_it_fires_and_no_secret(demo: Site) -> None:
    hook, nightly = get(demo, "/triggers?pipeline=etl")["items"]

    assert (hook["url"], hook["verify"], hook["paused"]) == ("/webhooks/etl/hook", "hmac", False)
    assert nightly["fires"] == {"cron": "0 5 * * *", "timezone": "Europe/Berlin"}
    assert "in-the-file" not in demo.client.get("/api/v1/triggers").text
    assert "in-the-file" not in demo.client.get("/api/v1/pipelines/etl").text


def test_webhook_of_another_project_has_its_own_address(demo: Site) -> None:
    (hook,) = get(demo, "/triggers?project=second")["items"]

    assert hook["url"] == "/projects/second/webhooks/other/hook"


def test_paused_trigger_says_so_until_it_is_resumed(demo: Site) -> None:
    paused = demo.client.post("/api/v1/triggers/etl/nightly/pause").get_json()
    again = demo.client.post("/api/v1/triggers/etl/nightly/pause").get_json()
    others = get(demo, "/triggers/etl/hook")
    resumed = demo.client.post("/api/v1/triggers/etl/nightly/resume").get_json()

    assert paused["paused"] is again["paused"] is True
    assert others["paused"] is False
    assert resumed["paused"] is False


def test_unknown_trigger_is_404(demo: Site) -> None:
    assert get(demo, "/triggers/etl/nobody", 404)["title"] == "Not Found"
    assert demo.client.post("/api/v1/triggers/etl/nobody/pause").status_code == 404


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "stat=failed", "state=done", "since=x"]
)
def test_wrong_or_unknown_filter_is_422(demo: Site, query: str) -> None:
    problem = get(demo, f"/runs?{query}", 422)

    assert problem["errors"][0]["where"].startswith(query.split("=")[0])


def test_names_with_control_characters_are_422(demo: Site) -> None:
    assert demo.client.get("/api/v1/runs", query_string={"pipeline": "a\0b"}).status_code == 422


@pytest.mark.parametrize(
    "path", ["/runs/nothing", "/runs/a%00b", "/runs/nothing/logs", "/events/nothing", "/nowhere"]
)
def test_what_is_not_there_is_a_404_problem(demo: Site, path: str) -> None:
    answer = demo.client.get(f"/api/v1{path}")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


def test_other_methods_are_a_405_problem(demo: Site) -> None:
    answer = demo.client.delete("/api/v1/runs", json={})

    assert answer.status_code == 405
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_too_large_a_body_is_413(demo: Site) -> None:
    answer = demo.client.post("/api/v1/runs", json={"pipeline": "x" * 2_000_000})

    assert answer.status_code == 413
    assert answer.content_type == "application/problem+json"


def test_chunked_body_is_refused_and_not_cut(demo: Site) -> None:
    sent = b'{"pipeline": "etl"}' + b" " * 2_000_000  # cut at the limit it would be a good request
    answer = demo.client.post(
        "/api/v1/runs",
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input": BytesIO(sent), "wsgi.input_terminated": True},
    )

    assert answer.status_code == 413
    assert get(demo, "/runs")["items"] == []


def test_store_that_is_down_is_503_and_says_when_to_come_back(
    demo: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(database: Database) -> None:
        raise StoreUnavailable(database.name, "disk gone at /secret/path")

    monkeypatch.setattr(Database, "read", gone)

    answer = demo.client.get("/api/v1/runs")

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "/secret/path" not in answer.text

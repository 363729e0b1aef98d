"""`millrace start` as a user has it: a process tree that serves, heals, stops and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.parts.service import Service, alive, run_millrace
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project that `millrace init` makes."""
    made = run_millrace("init", "shop", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    return tmp_path / "shop"


@pytest.fixture
def service(project: Path) -> Iterator[Service]:
    with Service([project]) as running:
        running.wait_ready()
        yield running


def token_of(project: Path, environ: Mapping[str, str] | None = None) -> str:
    shown = run_millrace("pipelines", "show", "hello", "--json", cwd=project, environ=environ)
    assert shown.returncode == 0, shown.stderr
    return str(json.loads(shown.stdout)["triggers"][0]["token"])


def post_orders(service: Service, token: str, *, wait: int = 20) -> requests.Response:
    return requests.post(
        f"{service.url}/webhooks/hello/orders?wait={wait}",
        json={"orders": [{"customer": "Ada", "amount": 1}, {"customer": "Ada", "amount": 2}]},
        headers={"Authorization": f"Bearer {token}"},
        timeout=wait + 10,
    )


def test_a_webhook_reaches_a_finished_run(service: Service, project: Path) -> None:
    answer = post_orders(service, token_of(project))

    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()["run"]
    assert run["state"] == "succeeded", run
    assert [block["state"] for block in run["blocks"]] == ["succeeded"] * 3
    assert (project / "out" / "totals.csv").read_text().splitlines() == ["customer,amount", "Ada,3"]


def test_it_serves_from_postgres(project: Path, postgres_url: str) -> None:
    environ = {"MILLRACE_DATABASE_URL": postgres_url}

    with Service([project], environ=environ) as service:
        service.wait_ready()
        answer = post_orders(service, token_of(project, environ))
        code = service.stop()

    assert answer.json()["run"]["state"] == "succeeded"
    assert code == 0
    assert not (project / ".millrace" / "millrace.db").exists()


def test_a_stop_is_clean_and_leaves_no_process(service: Service) -> None:
    tree = service.descendants()

    code = service.stop()

    assert code == 0, service.log.read_text()
    assert alive(tree) == []
    assert "Traceback" not in service.log.read_text()


def test_nothing_outlives_a_supervisor_that_is_killed(service: Service) -> None:
    tree = service.descendants()
    assert len(tree) >= 4  # gunicorn and its child, the engine and a worker process at least

    service.kill()

    wait_until(lambda: not alive(tree), seconds=20, what="the end of every descendant")


@pytest.mark.parametrize("role", ["web", "engine"])
def test_what_dies_is_started_again(service: Service, project: Path, role: str) -> None:
    victims = service.named(role)
    token = token_of(project)

    for victim in victims:
        victim.kill()

    wait_until(lambda: not alive(victims), what=f"the death of {role}")
    wait_until(lambda: service.named(role), what=f"another {role}")
    assert post_orders(service, token).json()["run"]["state"] == "succeeded"


def test_connections_wait_while_the_web_process_is_replaced(service: Service) -> None:
    for victim in service.named("web"):
        victim.kill()

    answer = requests.get(f"{service.url}/healthz", timeout=20)

    assert answer.status_code == 200


def test_it_is_ready_within_seconds(project: Path) -> None:
    began = time.monotonic()

    with Service([project]) as service:
        service.wait_ready()

    assert time.monotonic() - began < 20  # 4 s on an idle machine; tests share theirs with others


def test_a_taken_port_is_a_clear_error(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        refused = run_millrace("start", "--port", str(port), cwd=project)

    assert refused.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_does_not_listen_beyond_this_machine_without_a_token(project: Path) -> None:
    refused = run_millrace("start", "--host", "0.0.0.0", "--port", "0", cwd=project)

    assert refused.returncode == 2
    assert "MILLRACE_API_TOKEN" in refused.stderr


def test_a_missing_project_folder_is_a_clear_error(tmp_path: Path) -> None:
    refused = run_millrace("start", "--project", "nowhere", "--port", "0", cwd=tmp_path)

    assert refused.returncode == 2
    assert "there is no project folder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_several_projects_are_served_by_one_service(project: Path, tmp_path: Path) -> None:
    assert run_millrace("init", "second", cwd=tmp_path).returncode == 0

    with Service([project, tmp_path / "second"]) as service:
        service.wait_ready()
        answer = requests.get(f"{service.url}/api/v1/pipelines", timeout=10)

    assert [(item["project"], item["name"]) for item in answer.json()["items"]] == [
        ("shop", "hello"),
        ("second", "hello"),
    ]

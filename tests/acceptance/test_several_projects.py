"""Two projects in one service, with pipelines and modules of the same names."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

WHOAMI = """
from helper import NAME

@custom
def whoami(*args, **kwargs):
    with open(kwargs["folder"] + "/journal", "a") as journal:
        journal.write(NAME + "\\n")
"""


@pytest.fixture
def service(tmp_path, start_service, store_environ):
    roots = [write_project(tmp_path / name, name=name) for name in ("north", "south")]
    for root in roots:
        (root / "helper.py").write_text(f"NAME = '{root.name}'\n")
        _add_pipeline(root, "whoami")
    return start_service(*roots, environ={**store_environ, "MILLRACE_SLOTS": "1"})


def test_each_project_runs_its_own_code_also_on_one_slot(service, tmp_path):
    """Their modules have the same names, so that one process cannot hold both."""
    for number, name in enumerate(("north", "south", "north")):
        accepted = _post(service, f"/projects/{name}/webhooks/whoami/hook", key=str(number)).json()

        run = _finished(service, accepted["run_ids"][0])
        assert (run["state"], run["project"]) == ("succeeded", name)

    assert _journal(tmp_path) == ["north", "south", "north"]


def test_the_project_is_a_part_of_every_key(service):
    north = _post(service, "/projects/north/webhooks/whoami/hook", key="same")
    south = _post(service, "/projects/south/webhooks/whoami/hook", key="same")
    first = _post(service, "/webhooks/whoami/hook", key="same")

    assert (north.status_code, south.status_code, first.status_code) == (202, 202, 200)
    assert north.json()["event_id"] != south.json()["event_id"]
    assert first.json()["event_id"] == north.json()["event_id"]  # the short address is the first project's
    assert _post(service, "/projects/west/webhooks/whoami/hook", key="same").status_code == 404


def test_a_new_pipeline_is_noticed_without_a_restart(service, tmp_path):
    _add_pipeline(tmp_path / "south", "later")

    def accepted() -> dict | None:
        answer = _post(service, "/projects/south/webhooks/later/hook", key="later")
        return answer.json() if answer.status_code == 202 else None

    answer = wait_until(accepted, seconds=15, what="the new webhook")

    assert _finished(service, answer["run_ids"][0])["state"] == "succeeded"
    assert _journal(tmp_path) == ["south"]


def _add_pipeline(root: Path, name: str) -> None:
    write_pipeline(
        root,
        name,
        [BlockFile(name, WHOAMI.replace("whoami", name))],
        triggers=[open_webhook(key="{{ event.headers['x-key'] }}")],
        variables={"folder": str(root.parent)},
    )


def _post(service, address: str, *, key: str) -> requests.Response:
    return requests.post(service.url + address, json={}, headers={"X-Key": key}, timeout=10)


def _finished(service, run_id: str) -> dict:
    def finished() -> dict | None:
        run = requests.get(f"{service.url}/api/v1/runs/{run_id}", timeout=10).json()
        return run if run["state"] in ("succeeded", "failed") else None

    return wait_until(finished, seconds=30, what="the end of the run")


def _journal(folder: Path) -> list[str]:
    return (folder / "journal").read_text().splitlines()

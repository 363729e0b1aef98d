"""Runs go on from their last finished block after a process was killed or stopped."""

from __future__ import annotations

import signal

import psutil
import pytest
import requests

from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.service import Service, alive
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

NOTE = """
import os, time
from pathlib import Path

def _note(kwargs):
    with open(kwargs["folder"] + "/journal", "a") as journal:
        journal.write(f"{kwargs['block_uuid']} {os.getpid()}\\n")
"""

FIRST = NOTE + "\n@custom\ndef first(*args, **kwargs):\n    _note(kwargs)\n    return {'value': 41}\n"

# Waits for a file, so that a test can kill it in the middle and let it pass later.
SECOND = (
    NOTE
    + """
@custom
def second(before, *args, **kwargs):
    _note(kwargs)
    while not Path(kwargs["folder"], "go").exists():
        time.sleep(0.02)
    return {"value": before["value"] + 1}
"""
)

LAST = (
    NOTE
    + """
@data_exporter
def last(before, *args, **kwargs):
    _note(kwargs)
    assert before == {"value": 42}
"""
)

QUICK = BlockFile("quick", "@custom\ndef quick(*args, **kwargs):\n    pass\n")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


@pytest.fixture
def project(tmp_path, folder):
    root = write_project(tmp_path / "rescue")
    blocks = [
        BlockFile("first", FIRST),
        BlockFile("second", SECOND, upstream=["first"]),
        BlockFile("last", LAST, "data_exporter", ["second"]),
    ]
    write_pipeline(root, "steps", blocks, triggers=[open_webhook()], variables={"folder": str(folder)})
    return root


def test_a_killed_worker_process_costs_only_the_block_it_ran(project, folder, start_service, store_environ):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)

    _worker_of(folder).kill()
    wait_until(lambda: _journal(folder).count("second") == 2, what="the second try", seconds=30)
    (folder / "go").touch()

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert _journal(folder) == ["first", "second", "second", "last"]
    log = requests.get(f"{service.url}/api/v1/runs/{run_id}/logs?block=second", timeout=10).json()
    assert "died under this block (by signal SIGKILL)" in log["items"][0]["text"]


def test_a_killed_engine_costs_only_the_block_that_ran(project, folder, start_service, store_environ):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)
    orphan = _worker_of(folder)

    service.named("engine")[0].kill()
    wait_until(lambda: not orphan.is_running(), what="the end of the engine's worker process", seconds=10)
    (folder / "go").touch()

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert _journal(folder) == ["first", "second", "second", "last"]
    assert [block["attempt"] for block in run["blocks"]] == [1, 1, 1]


def test_a_stopped_engine_lets_the_block_end_and_the_next_one_goes_on(
    project, folder, start_service, store_environ
):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)
    engine = service.named("engine")[0]

    engine.terminate()
    (folder / "go").touch()
    wait_until(lambda: not engine.is_running(), what="the end of the engine", seconds=20)

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert _journal(folder) == ["first", "second", "last"]


def test_engines_that_stop_never_make_a_block_fail(project, folder, start_service):
    """More often than a worker process may die under a block."""
    service = start_service(project, environ={"MILLRACE_DRAIN_SECONDS": "0"})
    run_id = _begin_second(service, folder)

    for tries in range(1, 7):
        engine = service.named("engine")[0]
        engine.terminate()
        wait_until(lambda: _journal(folder).count("second") > tries, what="the next try", seconds=30)  # noqa: B023
    (folder / "go").touch()

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert [block["attempt"] for block in run["blocks"]] == [1, 1, 1]


def test_a_service_stops_in_time_also_while_a_block_hangs(project, folder, start_service):
    service = start_service(project, environ={"MILLRACE_DRAIN_SECONDS": "1"})
    run_id = _begin_second(service, folder)
    below = service.descendants()

    assert service.stop(seconds=15) == 0
    assert alive(below) == []
    (folder / "go").touch()
    service.start()
    service.wait_ready()

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert [block["attempt"] for block in run["blocks"]] == [1, 1, 1]


def test_a_killed_tree_goes_on_when_it_is_started_again(project, folder, start_service, store_environ):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)

    service.kill_tree()
    (folder / "go").touch()
    service.start()
    service.wait_ready()

    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert _journal(folder) == ["first", "second", "second", "last"]


def test_a_stopped_worker_changes_nothing_when_it_wakes(project, folder, start_service, store_environ):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)
    paused = _worker_of(folder)

    paused.send_signal(signal.SIGSTOP)
    wait_until(lambda: _journal(folder).count("second") == 2, what="the second try", seconds=30)
    (folder / "go").touch()
    run = _finished(service, run_id)
    if paused.is_running():
        paused.send_signal(signal.SIGCONT)
    wait_until(lambda: not paused.is_running(), what="the end of the paused process", seconds=10)

    assert run["state"] == "succeeded"
    assert _journal(folder) == ["first", "second", "second", "last"]
    assert _run(service, run_id) == run


def test_a_stopped_engine_changes_nothing_when_it_wakes(
    tmp_path, project, folder, start_service, postgres_url
):
    """Two services on one Postgres: the first engine and its worker are stopped, the second takes over."""
    environ = {"MILLRACE_DATABASE_URL": postgres_url, "MILLRACE_CHECKPOINTS": str(tmp_path / "checkpoints")}
    first = start_service(project, environ=environ)
    run_id = _begin_second(first, folder)
    engine = first.named("engine")[0]
    stopped = [engine, *engine.children(recursive=True)]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)

    other = Service([project], environ={**environ, "MILLRACE_HOME": str(tmp_path / "other")})
    other.log = tmp_path / "other.log"
    with other:
        other.wait_ready()
        wait_until(lambda: _journal(folder).count("second") == 2, what="the second try", seconds=30)
        (folder / "go").touch()
        run = _finished(other, run_id)
        for process in stopped:
            process.send_signal(signal.SIGCONT)
        worker = next(process for process in stopped[1:] if process.pid == _pids(folder)[1])
        wait_until(lambda: not worker.is_running(), what="the end of the paused process", seconds=15)

        assert run["state"] == "succeeded"
        assert _journal(folder) == ["first", "second", "second", "last"]
        assert _run(other, run_id) == run


def test_a_cancelled_run_ends_its_process(project, folder, start_service, store_environ):
    service = start_service(project, environ=store_environ)
    run_id = _begin_second(service, folder)
    worker = _worker_of(folder)

    answer = requests.post(f"{service.url}/api/v1/runs/{run_id}/cancel", json={}, timeout=10)

    assert answer.status_code in (200, 202)
    run = _finished(service, run_id)
    assert run["state"] == "cancelled"
    assert [block["state"] for block in run["blocks"]] == ["succeeded", "cancelled", "cancelled"]
    wait_until(lambda: not worker.is_running(), what="the end of the cancelled process", seconds=10)


def test_a_retried_run_goes_on_from_the_failed_block(tmp_path, folder, start_service, store_environ):
    root = write_project(tmp_path / "again")
    fragile = (
        NOTE
        + "\n@custom\ndef fragile(before, *args, **kwargs):\n    _note(kwargs)\n"
        + "    if not Path(kwargs['folder'], 'mended').exists():\n        raise ValueError('not yet')\n"
        + "    return before\n"
    )
    blocks = [BlockFile("first", FIRST), BlockFile("fragile", fragile, upstream=["first"])]
    write_pipeline(root, "again", blocks, triggers=[open_webhook()], variables={"folder": str(folder)})
    service = start_service(root, environ=store_environ)
    accepted = requests.post(f"{service.url}/webhooks/again/hook", json={}, timeout=10).json()
    run_id = accepted["run_ids"][0]
    assert _finished(service, run_id)["state"] == "failed"

    (folder / "mended").touch()
    answer = requests.post(f"{service.url}/api/v1/runs/{run_id}/retry", json={}, timeout=10)

    assert answer.status_code in (200, 202)
    run = _finished(service, run_id)
    assert run["state"] == "succeeded"
    assert run["attempt"] == 2
    assert _journal(folder) == ["first", "fragile", "fragile"]


def test_a_block_that_waits_for_its_retry_holds_no_slot(tmp_path, folder, start_service, store_environ):
    root = write_project(tmp_path / "patient")
    flaky = (
        NOTE
        + "\n@custom\ndef flaky(*args, **kwargs):\n    _note(kwargs)\n"
        + "    if not Path(kwargs['folder'], 'mended').exists():\n        raise ValueError('not yet')\n"
    )
    retry = {"retry_config": {"retries": 1, "delay": 4, "exponential_backoff": False}}
    write_pipeline(
        root,
        "flaky",
        [BlockFile("flaky", flaky, keys=retry)],
        triggers=[open_webhook()],
        variables={"folder": str(folder)},
    )
    write_pipeline(root, "other", [QUICK], triggers=[open_webhook()])
    service = start_service(root, environ={**store_environ, "MILLRACE_SLOTS": "1"})
    waiting = requests.post(f"{service.url}/webhooks/flaky/hook", json={}, timeout=10).json()["run_ids"][0]
    wait_until(lambda: _run(service, waiting)["state"] == "waiting", what="the wait for the retry")

    other = requests.post(f"{service.url}/webhooks/other/hook?wait=10", json={}, timeout=20)

    assert other.json()["run"]["state"] == "succeeded"
    assert _run(service, waiting)["state"] == "waiting"
    (folder / "mended").touch()
    run = _finished(service, waiting)
    assert run["state"] == "succeeded"
    assert run["blocks"][0]["attempt"] == 2


def _begin_second(service: Service, folder) -> str:
    """Start a run and return its id once its second block is under way and the first is recorded."""
    accepted = requests.post(f"{service.url}/webhooks/steps/hook", json={}, timeout=10).json()
    run_id = accepted["run_ids"][0]

    def is_there() -> bool:
        states = [block["state"] for block in _run(service, run_id)["blocks"]]
        return states[:2] == ["succeeded", "running"] and "second" in _journal(folder)

    wait_until(is_there, what="the second block", seconds=20)
    return run_id


def _run(service: Service, run_id: str) -> dict:
    return requests.get(f"{service.url}/api/v1/runs/{run_id}", timeout=10).json()


def _finished(service: Service, run_id: str) -> dict:
    def finished() -> dict | None:
        run = _run(service, run_id)
        return run if run.get("state") in ("succeeded", "failed", "cancelled") else None

    return wait_until(finished, seconds=40, what="the end of the run")


def _journal(folder) -> list[str]:
    journal = folder / "journal"
    return [line.split()[0] for line in journal.read_text().splitlines()] if journal.exists() else []


def _pids(folder) -> list[int]:
    return [int(line.split()[1]) for line in (folder / "journal").read_text().splitlines()]


def _worker_of(folder) -> psutil.Process:
    return psutil.Process(_pids(folder)[-1])

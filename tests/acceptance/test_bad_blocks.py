"""Blocks that misbehave: each run ends with a clear error, and the service goes on."""

from __future__ import annotations

import time

import psutil
import pytest
import requests

from tests.parts.projects import BlockFile, open_webhook, write_pipeline, write_project
from tests.parts.service import Service
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

BLOCKS = {
    "nothing": "@custom\ndef nothing(*args, **kwargs):\n    return None\n",
    "raises": "@custom\ndef raises(*args, **kwargs):\n    price = 'free'\n    return int(price)\n",
    "hangs": "import time\n@custom\ndef hangs(*args, **kwargs):\n    time.sleep(600)\n",
    "spins": "@custom\ndef spins(*args, **kwargs):\n    while True:\n        pass\n",
    "prints": """
        @custom
        def prints(*args, **kwargs):
            for _ in range(100_000):
                print('x' * 1023)
            return 1
        """,
    "exits": "import os\n@custom\ndef exits(*args, **kwargs):\n    os._exit(7)\n",
    "eats": """
        @custom
        def eats(*args, **kwargs):
            eaten = []
            while True:
                eaten.append(bytearray(8 * 1024 * 1024))
        """,
    "forks": """
        import os, subprocess, sys
        @custom
        def forks(*args, **kwargs):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            if (grandchild := os.fork()) == 0:
                import time
                time.sleep(600)
                os._exit(0)
            return [child.pid, grandchild]
        """,
    "fine": "@custom\ndef fine(*args, **kwargs):\n    return 'fine'\n",
}
KEYS = {"hangs": {"timeout": 1}, "spins": {"timeout": 1}, "eats": {"memory": 400}}


@pytest.fixture(scope="module")
def service_url(tmp_path_factory):
    """One service with a pipeline for every bad block."""
    project = write_project(tmp_path_factory.mktemp("bad") / "bad")
    for name, code in BLOCKS.items():
        block = BlockFile(name, code, keys=KEYS.get(name, {}))
        write_pipeline(project, name, [block], triggers=[open_webhook()])
    with Service([project], environ={"MILLRACE_DRAIN_SECONDS": "1"}) as service:
        service.wait_ready()
        yield service.url


def run_of(url: str, pipeline: str, *, wait: int = 50) -> dict:
    """Start the pipeline and return its finished run."""
    accepted = requests.post(f"{url}/webhooks/{pipeline}/hook", json={}, timeout=10).json()
    run_id = accepted["run_ids"][0]

    def finished() -> dict | None:
        run = requests.get(f"{url}/api/v1/runs/{run_id}", timeout=10).json()
        return run if run["state"] in ("succeeded", "failed", "cancelled") else None

    return wait_until(finished, seconds=wait, what=f"the end of {pipeline}")


def log_of(url: str, run_id: str) -> list[str]:
    lines, cursor = [], ""
    while True:
        page = requests.get(f"{url}/api/v1/runs/{run_id}/logs?limit=500{cursor}", timeout=30).json()
        lines += [line["text"] for line in page["items"]]
        if page["next"] is None:
            return lines
        cursor = f"&cursor={page['next']}"


def test_a_block_that_returns_nothing_succeeds(service_url):
    run = run_of(service_url, "nothing")

    assert run["state"] == "succeeded"
    assert run["blocks"][0]["rows"] is None


def test_a_block_that_raises_fails_with_the_line(service_url):
    run = run_of(service_url, "raises")

    assert run["state"] == "failed"
    error = run["blocks"][0]["error"]
    assert "ValueError: invalid literal for int()" in error
    assert "custom/raises.py" in error
    assert "4" in error


@pytest.mark.parametrize("name", ["hangs", "spins"])
def test_a_block_over_its_timeout_is_ended(service_url, name):
    began = time.monotonic()

    run = run_of(service_url, name)

    assert run["state"] == "failed"
    assert "longer than its timeout of 1 s" in run["blocks"][0]["error"]
    assert time.monotonic() - began < 40


def test_a_block_that_prints_100_mb_keeps_the_beginning_and_says_what_is_missing(service_url):
    run = run_of(service_url, "prints")

    assert run["state"] == "succeeded"
    lines = log_of(service_url, run["id"])
    kept = sum(len(line) for line in lines)
    assert 100_000 < kept < 5_000_000
    assert any("were not kept" in line for line in lines[-3:])


def test_a_block_that_calls_exit_fails_after_five_deaths(service_url):
    run = run_of(service_url, "exits")

    assert run["state"] == "failed"
    assert "died 5 times" in run["blocks"][0]["error"]
    assert "exit code 7" in run["blocks"][0]["error"]


def test_a_block_that_eats_memory_is_ended(service_url):
    run = run_of(service_url, "eats")

    assert run["state"] == "failed"
    assert "400 MB are allowed" in run["blocks"][0]["error"]


def test_processes_that_a_block_leaves_behind_are_ended(service_url):
    before = {process.pid for process in psutil.process_iter()}

    run = run_of(service_url, "forks")

    assert run["state"] == "succeeded"
    assert any("left behind" in line for line in log_of(service_url, run["id"]))
    left = [p for p in psutil.process_iter() if p.pid not in before and _sleeps_long(p)]
    assert left == []


def test_the_service_goes_on_after_all_of_them(service_url):
    assert run_of(service_url, "fine")["state"] == "succeeded"


def _sleeps_long(process: psutil.Process) -> bool:
    try:
        return "time.sleep(600)" in " ".join(process.cmdline())
    except psutil.Error:
        return False

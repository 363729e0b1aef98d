"""A worker process by itself: its channel, its lease, its end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.project import Project
from service.clock import utc_now
from service.running.executors.base import Message
from service.running.executors.messages import hello_of
from service.running.executors.process import WorkerProcess
from service.settings import Settings
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.waiting import wait_until


class Engine:
    """Hears a worker process, until it is made deaf: then it reads nothing more, as one that is stopped."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.exit_code: int | None = None
        self.may_listen = threading.Event()
        self.may_listen.set()

    def on_message(self, process: WorkerProcess, message: Message) -> None:
        self.messages.append(message)
        self.may_listen.wait()

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None:
        self.exit_code = exit_code

    def has_heard(self, kind: str) -> bool:
        return any(message["type"] == kind for message in self.messages)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.may_listen.set()


@pytest.fixture
def process(tmp_path: Path, engine: Engine) -> Iterator[WorkerProcess]:
    settings = Settings(project=(tmp_path,), home=tmp_path / "home")
    process = WorkerProcess(hello_of(settings), engine)
    wait_until(lambda: engine.has_heard("ready"), seconds=20, what="a warm process")
    yield process
    process.kill()
    process.join(5)


def run_message(root: Path, code: str, *, lease_seconds: float) -> dict[str, Any]:
    """The message that gives a run of one block to a process."""
    write_project(root)
    write_pipeline(root, "one", [BlockFile("one", code)])
    return {
        "type": "run",
        "lease_until": time.monotonic() + lease_seconds,
        "run_id": "run-1",
        "project": "demo",
        "root": str(root),
        "pipeline": "one",
        "pin": "pin",
        "sources": dict(Project.load(root).sources_of("one")),
        "variables": {"folder": str(root)},
        "trigger": None,
        "event": None,
        "execution_date": utc_now().isoformat(),
        "interval_start": None,
        "interval_end": None,
        "timezone": "UTC",
        "attempt": 1,
        "selection": [],
        "progress": {},
        "options": {},
    }


def test_a_process_dies_with_its_lease(tmp_path: Path, engine: Engine, process: WorkerProcess) -> None:
    code = "import time\n@custom\ndef one(*args, **kwargs):\n    time.sleep(600)\n"

    process.send(run_message(tmp_path / "demo", code, lease_seconds=1))

    wait_until(lambda: engine.exit_code is not None, what="the end of the process")


def test_a_process_whose_engine_reads_nothing_dies_with_its_lease(
    tmp_path: Path, engine: Engine, process: WorkerProcess
) -> None:
    """What it has to say fills the channel, and whoever speaks waits."""
    code = """
        @custom
        def one(*args, **kwargs):
            for _ in range(100):
                print("x" * 10_000)
            while True:
                pass
        """
    engine.may_listen.clear()

    process.send(run_message(tmp_path / "demo", code, lease_seconds=2))

    wait_until(lambda: not psutil.pid_exists(process.pid) or _is_dead(process.pid), what="its end")


def test_a_process_ends_what_its_block_has_started_in_another_group(
    tmp_path: Path, engine: Engine, process: WorkerProcess
) -> None:
    code = """
        import os, subprocess, sys, time
        @custom
        def one(*args, **kwargs):
            sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
            child = subprocess.Popen(sleep, start_new_session=True)
            with open(kwargs["folder"] + "/child.new", "w") as file:
                file.write(str(child.pid))
            os.rename(kwargs["folder"] + "/child.new", kwargs["folder"] + "/child")
            time.sleep(600)
        """
    process.send(run_message(tmp_path / "demo", code, lease_seconds=60))
    note = tmp_path / "demo" / "child"
    wait_until(note.exists, what="the child")
    child = int(note.read_text())

    process.kill()

    wait_until(lambda: _is_dead(child), what="the end of the child")


def test_a_process_that_takes_no_messages_keeps_nobody_waiting(
    engine: Engine, process: WorkerProcess
) -> None:
    psutil.Process(process.pid).suspend()
    began = time.monotonic()

    process.send({"type": "lease", "until": 0, "filler": "x" * 2**22})

    assert time.monotonic() - began < 5
    wait_until(lambda: engine.exit_code is not None, what="the end of the process")


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return True

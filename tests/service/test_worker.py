"""The engine's worker with real processes, without web and without a command line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.running.launch import launch
from service.running.worker import Worker
from service.runtime import Runtime, build_runtime
from service.settings import Settings
from service.store import logs, runs
from service.store.session import Commit
from service.store.values import BlockState, Run, RunState
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.waiting import wait_until

NOTE = """
import os, time
from pathlib import Path

def note(kwargs, text=""):
    with open(kwargs["folder"] + "/journal", "a") as journal:
        journal.write(kwargs["block_uuid"] + text + "\\n")

def wait_for(kwargs, name):
    while not Path(kwargs["folder"], name).exists():
        time.sleep(0.02)
"""
FIRST = BlockFile("first", NOTE + "\n@custom\ndef first(*args, **kwargs):\n    note(kwargs)\n    return 1\n")
SECOND = BlockFile(
    "second",
    NOTE
    + "\n@custom\ndef second(one, **kwargs):\n    note(kwargs)\n    wait_for(kwargs, 'go')\n    return 2\n",
    upstream=["first"],
)
THIRD = BlockFile(
    "third", NOTE + "\n@custom\ndef third(two, **kwargs):\n    note(kwargs)\n", upstream=["second"]
)


class Bench:
    """Projects, a store, and workers on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = write_project(folder / "shop", name="shop")
        self.journal_file = folder / "journal"
        self.runtime: Runtime | None = None
        self._workers: list[Worker] = []

    def pipeline(self, name: str, *blocks: BlockFile, root: Path | None = None, **keys: Any) -> None:
        variables = {"folder": str(self.folder)}
        write_pipeline(root or self.root, name, blocks, variables=variables, **keys)

    def start(self, *more_projects: Path, **settings: Any) -> Worker:
        """Start a worker; a second one shares the store of the first."""
        if self.runtime is None:
            chosen = {"slots": 1, "lease_seconds": 3, "renew_seconds": 0.5, "drain_seconds": 5, **settings}
            self.runtime = build_runtime(
                Settings(project=(self.root, *more_projects), home=self.folder / "home", **chosen)
            )
            self.runtime.wakeups.start()
        worker = Worker(self.runtime, f"engine-{len(self._workers) + 1}")
        worker.start()
        self._workers.append(worker)
        return worker

    def launch(self, pipeline: str, project: str = "shop") -> str:
        assert self.runtime is not None
        return launch(self.runtime, project=project, pipeline=pipeline)[0].id

    def get(self, run_id: str) -> Run:
        assert self.runtime is not None
        with self.runtime.database.read() as connection:
            run = runs.get(connection, run_id)
        assert run is not None
        return run

    def finished(self, run_id: str) -> Run:
        def finished() -> Run | None:
            run = self.get(run_id)
            return run if run.state.is_final else None

        return wait_until(finished, seconds=30, what="the end of the run")

    def retry(self, run_id: str) -> None:
        assert self.runtime is not None
        self.runtime.database.write(Commit.RETRY, lambda tx: runs.retry(tx, run_id))

    def journal(self) -> list[str]:
        return self.journal_file.read_text().splitlines() if self.journal_file.exists() else []

    def wait_for_block(self, name: str) -> None:
        wait_until(lambda: name in self.journal(), seconds=20, what=f"block {name}")

    def process(self) -> psutil.Process:
        """Return the worker process, once there is one that is warm."""
        return wait_until(self._warm_process, seconds=20, what="a warm worker process")

    def _warm_process(self) -> psutil.Process | None:
        for process in psutil.Process().children():
            with suppress(psutil.Error):  # it may be gone by now
                if "service.running.executors.host" in process.cmdline() and self._is_idle():
                    return process
        return None

    def _is_idle(self) -> bool:
        return all(worker.idle_count() for worker in self._workers[-1:])

    def go(self) -> None:
        (self.folder / "go").touch()

    def close(self) -> None:
        self.go()
        for worker in self._workers:
            worker.stop()
        if self.runtime is not None:
            self.runtime.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_stopping_worker_lets_a_running_block_end_and_gives_the_run_back(bench: Bench) -> None:
    """For longer than a lease, which it renews meanwhile."""
    bench.pipeline("steps", FIRST, SECOND, THIRD)
    worker = bench.start(lease_seconds=1.5, drain_seconds=20)
    run_id = bench.launch("steps")
    bench.wait_for_block("second")
    other = bench.start()  # would take the run as soon as the lease lapsed

    stopping = _in_background(worker.stop)
    other.drain()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2.5, what="the time of a lease")
    bench.go()
    stopping()

    run = bench.get(run_id)
    assert (run.state, run.claim) == (RunState.QUEUED, 1)
    assert [block.state for block in run.blocks] == [
        BlockState.SUCCEEDED,
        BlockState.SUCCEEDED,
        BlockState.QUEUED,
    ]
    bench.start()
    assert bench.finished(run_id).state is RunState.SUCCEEDED
    assert bench.journal() == ["first", "second", "third"]


def test_a_block_that_outlives_the_drain_is_interrupted_without_blame(bench: Bench) -> None:
    bench.pipeline("steps", FIRST, SECOND, THIRD)
    worker = bench.start(drain_seconds=0.1)
    run_id = bench.launch("steps")
    bench.wait_for_block("second")

    worker.stop()

    run = bench.get(run_id)
    assert run.state is RunState.QUEUED  # at once, and not when the lease lapses
    assert [(block.attempt, block.deaths) for block in run.blocks] == [(1, 0), (0, 0), (0, 0)]


def test_an_interrupted_run_goes_on_with_the_sources_it_began_with(bench: Bench) -> None:
    bench.pipeline("steps", FIRST, SECOND, THIRD)
    worker = bench.start(drain_seconds=0.1)
    run_id = bench.launch("steps")
    bench.wait_for_block("second")
    worker.stop()

    changed = BlockFile(
        "third", THIRD.code.replace("note(kwargs)", "note(kwargs, ' anew')"), upstream=["second"]
    )
    bench.pipeline("steps", FIRST, SECOND, changed)
    bench.go()
    assert bench.runtime is not None
    assert bench.runtime.projects.refresh()
    bench.start()

    assert bench.finished(run_id).state is RunState.SUCCEEDED
    assert bench.journal() == ["first", "second", "second", "third"]
    assert bench.finished(bench.launch("steps")).state is RunState.SUCCEEDED
    assert bench.journal()[-1] == "third anew"


def test_a_retried_run_keeps_the_sources_it_began_with(bench: Bench) -> None:
    broken = BlockFile("frail", "@custom\ndef frail(*args, **kwargs):\n    raise ValueError('then')\n")
    mended = BlockFile("frail", "@custom\ndef frail(*args, **kwargs):\n    return 'now'\n")
    bench.pipeline("frail", broken)
    bench.start()
    run_id = bench.launch("frail")
    bench.finished(run_id)

    bench.pipeline("frail", mended)
    assert bench.runtime is not None
    assert bench.runtime.projects.refresh()
    bench.retry(run_id)

    run = wait_until(lambda: _of_attempt(bench.get(run_id), 2), seconds=20, what="the second attempt")
    assert run.state is RunState.FAILED
    assert "ValueError: then" in (run.error or "")
    assert bench.finished(bench.launch("frail")).state is RunState.SUCCEEDED


def test_a_run_over_the_timeout_of_its_pipeline_is_ended(bench: Bench) -> None:
    bench.pipeline("steps", FIRST, SECOND, THIRD, timeout=1)
    bench.start()

    run = bench.finished(bench.launch("steps"))

    assert run.state is RunState.FAILED
    assert "The run took longer than the timeout of its pipeline, 1 s" in (run.error or "")
    assert [block.state for block in run.blocks] == [
        BlockState.SUCCEEDED,
        BlockState.FAILED,
        BlockState.CANCELLED,
    ]


def test_a_service_manager_that_signals_every_process_ends_no_block(bench: Bench) -> None:
    bench.pipeline("steps", FIRST, SECOND, THIRD)
    bench.start()
    process = bench.process()
    run_id = bench.launch("steps")
    bench.wait_for_block("second")

    process.send_signal(signal.SIGTERM)
    bench.go()

    assert bench.finished(run_id).state is RunState.SUCCEEDED
    assert bench.journal() == ["first", "second", "third"]


@pytest.mark.parametrize("code", [0, 75])
def test_no_exit_code_makes_a_block_run_again_for_ever(bench: Bench, code: int) -> None:
    exits = f"""
@data_exporter
def exits(one, **kwargs):
    note(kwargs)
    second_time = Path(kwargs["folder"], "second_time")
    if not second_time.exists():
        second_time.touch()
        os._exit({code})
"""
    bench.pipeline("exits", FIRST, BlockFile("exits", NOTE + exits, "data_exporter", ["first"]))
    bench.start()

    run = bench.finished(bench.launch("exits"))

    assert run.state is RunState.SUCCEEDED
    assert bench.journal() == ["first", "exits", "exits"]
    assert [block.deaths for block in run.blocks] == [0, 1]


def test_a_block_that_holds_the_interpreter_for_longer_than_a_lease_may_go_on(bench: Bench) -> None:
    holds = "\n@custom\ndef holds(*args, **kwargs):\n    note(kwargs)\n    ctypes.PyDLL(None).sleep(6)\n"
    bench.pipeline("holds", BlockFile("holds", "import ctypes\n" + NOTE + holds))
    bench.start(lease_seconds=3)

    run = bench.finished(bench.launch("holds"))

    assert (run.state, run.claim) == (RunState.SUCCEEDED, 1)
    assert bench.journal() == ["holds"]


def test_a_run_given_to_a_process_that_just_died_goes_to_the_next(bench: Bench) -> None:
    bench.pipeline("first", FIRST)
    bench.start()
    process = bench.process()

    os.kill(process.pid, signal.SIGKILL)
    run = bench.finished(bench.launch("first"))

    assert run.state is RunState.SUCCEEDED
    assert bench.journal() == ["first"]


def test_an_idle_process_that_is_stopped_does_not_keep_another_project_waiting(bench: Bench) -> None:
    other = write_project(bench.folder / "other", name="other")
    bench.pipeline("steps", FIRST)
    bench.pipeline("steps", BlockFile("far", FIRST.code.replace("first", "far")), root=other)
    bench.start(other)
    assert bench.finished(bench.launch("steps")).state is RunState.SUCCEEDED
    process = bench.process()

    process.suspend()
    run = bench.finished(bench.launch("steps", "other"))

    assert run.state is RunState.SUCCEEDED
    assert bench.journal() == ["first", "far"]


def test_a_stopped_process_does_not_keep_the_engine_from_its_other_runs(bench: Bench) -> None:
    """The message with the run is larger than what the channel holds, and nobody reads it."""
    bench.pipeline("steps", FIRST)
    bench.start()
    process = bench.process()
    assert bench.runtime is not None

    process.suspend()
    large = launch(bench.runtime, pipeline="steps", variables={"folder": str(bench.folder), "x": "y" * 2**21})
    run = bench.finished(large[0].id)

    assert run.state is RunState.SUCCEEDED
    assert bench.journal() == ["first"]


def test_a_changed_module_of_the_project_is_loaded_anew(bench: Bench) -> None:
    helped = (
        "from helper import NAME\n"
        + NOTE
        + "\n@custom\ndef helped(*args, **kwargs):\n    note(kwargs, NAME)\n"
    )
    bench.pipeline("helped", BlockFile("helped", helped))
    (bench.root / "helper.py").write_text("NAME = ' then'\n")
    bench.start()
    bench.finished(bench.launch("helped"))

    (bench.root / "helper.py").write_text("NAME = ' now, and longer'\n")
    run = bench.finished(bench.launch("helped"))

    assert bench.journal() == ["helped then", "helped now, and longer"]
    assert (run.claim, run.blocks[0].deaths) == (1, 0)


def test_a_process_that_has_served_its_time_is_replaced(bench: Bench) -> None:
    bench.pipeline("first", FIRST)
    bench.start(runs_per_process=1)
    pids = set()

    for _ in range(3):
        pids.add(bench.process().pid)
        run = bench.finished(bench.launch("first"))
        assert (run.state, run.claim) == (RunState.SUCCEEDED, 1)

    assert len(pids) == 3


def test_what_a_thread_says_after_its_run_is_not_logged_for_the_next(bench: Bench) -> None:
    """It keeps the stream it was given, as a handler of `logging` does."""
    leaves = (
        NOTE
        + """
import sys, threading

@custom
def leaves(*args, **kwargs):
    out = sys.stdout
    def talk():
        while not Path(kwargs["folder"], "go").exists():
            print("from the grave", file=out)
            time.sleep(0.0005)
    threading.Thread(target=talk, daemon=True).start()
"""
    )
    waits = (
        NOTE + "\n@custom\ndef waits(*args, **kwargs):\n    note(kwargs)\n    wait_for(kwargs, 'enough')\n"
    )
    bench.pipeline("leaves", BlockFile("leaves", leaves))
    bench.pipeline("waits", BlockFile("waits", waits))
    bench.start()
    assert bench.runtime is not None
    bench.finished(bench.launch("leaves"))

    run_id = bench.launch("waits")
    bench.wait_for_block("waits")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 1, what="time for more lines than a batch has")
    (bench.folder / "enough").touch()
    bench.finished(run_id)

    with bench.runtime.database.read() as connection:
        assert logs.read(connection, run_id) == []


def test_the_settings_bound_what_a_block_may_log(bench: Bench) -> None:
    talks = "@custom\ndef talks(*args, **kwargs):\n    print('x' * 300)\n    print('y' * 2000)\n"
    bench.pipeline("talks", BlockFile("talks", talks))
    bench.start(log_line_characters=250, block_log_characters=1000)
    assert bench.runtime is not None

    run = bench.finished(bench.launch("talks"))

    with bench.runtime.database.read() as connection:
        lines = [line.text for line in logs.read(connection, run.id)]
    assert lines[0] == "x" * 250 + "... (50 more characters)"
    assert "a block run keeps 1000 characters of log" in lines[-1]


def test_an_exception_that_holds_a_table_fails_its_block_as_any_other(bench: Bench) -> None:
    bench.pipeline(
        "huge",
        BlockFile("huge", "@custom\ndef huge(*args, **kwargs):\n    raise ValueError('x' * 80_000_000)\n"),
    )
    bench.start()

    run = bench.finished(bench.launch("huge"))

    assert run.state is RunState.FAILED
    assert len(run.blocks[0].error or "") < 20_000
    assert "more characters" in (run.blocks[0].error or "")


def _of_attempt(run: Run, attempt: int) -> Run | None:
    return run if run.attempt == attempt and run.state.is_final else None


def _in_background(work: Callable[[], None]) -> Callable[[], None]:
    """Start the work; return what waits for its end."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)

    def wait() -> None:
        future.result(30)
        pool.shutdown()

    return wait

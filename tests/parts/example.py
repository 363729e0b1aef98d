"""An example project, copied to a folder of the test's own and run by a real engine."""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from service.running.launch import launch
from service.running.worker import Worker
from service.runtime import Runtime, build_runtime
from service.settings import load_settings
from service.store import logs, runs
from service.store.values import Run
from tests.parts.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
IGNORED = shutil.ignore_patterns(".millrace", "lake", "*.duckdb*", "__pycache__")


def copy_example(name: str, target: Path) -> Path:
    """Copy an example as a fresh clone has it, without what earlier runs left in it."""
    return Path(shutil.copytree(EXAMPLES / name, target, ignore=IGNORED))


@contextmanager
def trip_source(folder: Path | None = None, *, rows: int = 300) -> Iterator[str]:
    """Serve the taxi example's trips, or the files of `folder`; yield the address."""
    spec = importlib.util.spec_from_file_location("source_server", EXAMPLES / "taxi" / "source_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Source(("127.0.0.1", 0), rows=rows, folder=folder) as source:
        thread = threading.Thread(target=source.serve_forever, daemon=True)
        thread.start()
        try:
            yield source.url
        finally:
            source.shutdown()
            thread.join()


@dataclass(frozen=True)
class Bench:
    """A project with an engine that runs its pipelines in one warm worker process."""

    runtime: Runtime

    @property
    def root(self) -> Path:
        return self.runtime.projects.default.root

    def run(
        self, pipeline: str, execution_date: datetime | None = None, *, seconds: float = 120, **variables: Any
    ) -> Run:
        """Run a pipeline to its end, whatever that is."""
        queued, _ = launch(
            self.runtime, pipeline=pipeline, variables=variables, execution_date=execution_date
        )
        return wait_until(lambda: self._finished(queued.id), seconds=seconds, what=f"the end of {pipeline}")

    def _finished(self, run_id: str) -> Run | None:
        with self.runtime.database.read() as connection:
            run = runs.get(connection, run_id)
        return run if run is not None and run.state.is_final else None

    def log(self, run: Run) -> str:
        with self.runtime.database.read() as connection:
            return "\n".join(line.text for line in logs.read(connection, run.id))

    def peak_memory_mb(self) -> float:
        """Return the greatest peak of all processes below this one that are running now."""
        return max(_peak_mb(process) for process in psutil.Process().children(recursive=True))


@contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """Open the project at `root`, with a store of its own and one slot."""
    runtime = build_runtime(load_settings(project=(root,), home=root / ".millrace", slots=1))
    runtime.wakeups.start()
    worker = Worker(runtime, engine_id="bench")
    worker.start()
    try:
        yield Bench(runtime)
    finally:
        worker.stop()
        runtime.close()


def _peak_mb(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0

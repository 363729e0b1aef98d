"""Starting and ending what is measured: the service, and bare applications under the same server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.parts.ports import free_port

READY_SECONDS = 60


@dataclass(frozen=True)
class Running:
    """A server under measurement."""

    port: int
    process: subprocess.Popen[bytes]
    seconds_to_ready: float

    def family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def memory_mb(self) -> float:
        """Return the memory of all its processes, shared pages counted once (PSS)."""
        return sum(process.memory_full_info().pss for process in self.family()) / 2**20

    def cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.family())


@contextmanager
def service(project: Path, home: Path, database_url: str | None) -> Iterator[Running]:
    """Start `millrace start` with its default configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    environment |= {"MILLRACE_HOME": str(home), "MILLRACE_LOG_LEVEL": "warning"}
    if database_url:
        environment["MILLRACE_DATABASE_URL"] = database_url
    port = free_port()
    command = [sys.executable, "-m", "service.cli", "start", "--project", str(project), "--port", str(port)]
    with _running(command, environment, port, "/readyz") as running:
        yield running


@contextmanager
def bare(kind: str, home: Path, database_url: str | None) -> Iterator[Running]:
    """Start a bare application (see `baseline`) under the same server and the same configuration."""
    port = free_port()
    environment = dict(os.environ) | {"MILLRACE_HOME": str(home)}
    command = [sys.executable, "-m", "benchmarks.baseline", kind, str(port), str(home), database_url or ""]
    with _running(command, environment, port, "/") as running:
        yield running


@contextmanager
def _running(command: list[str], environment: dict[str, str], port: int, ask: str) -> Iterator[Running]:
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        await_answer(process, f"http://127.0.0.1:{port}{ask}")
        yield Running(port, process, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    """Return once the process answers there; RuntimeError when it ends, or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer within {READY_SECONDS} s")

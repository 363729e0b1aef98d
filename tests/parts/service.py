"""A real Millrace service as a process tree, for acceptance tests.

with Service([project]) as service:
    service.wait_ready()
    requests.post(service.url + "/webhooks/taxi/from_api", ...)
    for process in service.descendants(): ...
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import requests

from service.cli.edge import run_command
from tests.parts.forked import forked
from tests.parts.waiting import wait_until

READY_SECONDS = 30.0  # generous: the machine may be busy with other tests


class Service:
    """`millrace start` on a free port. It can be started again on the same port."""

    def __init__(
        self, projects: Sequence[Path], *, environ: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.projects = [Path(project) for project in projects]
        self.home = self.projects[0] / ".millrace"
        self.log = self.projects[0] / "service.log"
        self.port = port
        self._environ = clean_environment(environ)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill_tree()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        """Start the service and learn its address. It is not ready yet."""
        options = [part for project in self.projects for part in ("--project", str(project))]
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [*MILLRACE, "start", *options, "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self.projects[0],
            )
        self.port = wait_until(lambda: self._announced_port(begin), seconds=READY_SECONDS, what="the address")

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until the store answers, a web process serves and an engine lives."""
        try:
            wait_until(self.is_ready, seconds=seconds, what="readiness")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None

    def is_ready(self) -> bool:
        assert self.exit_code is None, f"the service ended:\n{self.log.read_text()}"
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def descendants(self) -> list[psutil.Process]:
        """Return every process below the supervisor, however deep."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def named(self, role: str) -> list[psutil.Process]:
        """Return the descendants that run `millrace <role>` (gunicorn's own children are among `web`)."""
        return [process for process in self.descendants() if role in _arguments(process)]

    def stop(self, seconds: float = 30) -> int:
        """Ask the service to stop, wait for it and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Kill the supervisor alone; the others have to notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_tree(self) -> None:
        """Kill everything at once, as when the machine loses its power."""
        assert self._process is not None
        for process in [psutil.Process(self.pid), *self.descendants()]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def _announced_port(self, begin: int) -> int | None:
        with self.log.open("rb") as log:
            log.seek(begin)
            text = log.read().decode(errors="replace")
        for line in text.splitlines():
            if '"listening"' in line:
                return int(json.loads(line)["address"].rsplit(":", 1)[1])
        assert self.exit_code is None, f"the service did not start:\n{text}"
        return None


MILLRACE = (sys.executable, "-P", "-m", "service.cli")


def run_millrace(
    *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in a process that has its code loaded already; return what it printed."""
    with tempfile.TemporaryDirectory(prefix="millrace-command-") as folder:
        printed = (Path(folder) / "stdout", Path(folder) / "stderr")
        process = forked(_run_command, arguments, cwd, clean_environment(environ), printed)
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, seconds)
        return subprocess.CompletedProcess(
            arguments, process.exitcode, *(file.read_text() for file in printed)
        )


def _run_command(
    arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], printed: Sequence[Path]
) -> None:
    """Be the process of `millrace`, with its folder, environment and streams."""
    for number, file in enumerate((Path(os.devnull), *printed)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = [place for place in sys.path if place]  # as -P has it: no code from where it runs
    sys.stdin = open(0)  # noqa: SIM115 - children of multiprocessing have none
    sys.exit(run_command(arguments))


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without settings of Millrace, so that a developer's own do not leak in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    return {**kept, **(more or {})}


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; a zombie that nobody has waited for does not."""
    return [process for process in processes if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _arguments(process: psutil.Process) -> list[Any]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []

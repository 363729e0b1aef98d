"""Warm worker processes on this machine: starting them, speaking to them, ending them.

A process executes one run at a time. It speaks to the engine over one channel, in JSON and not in pickle:
block code runs there, and what it sends must not be able to run code here. It leads a process group of its
own, so that ending it ends everything a block has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

import psutil
import structlog

logger = structlog.get_logger(__name__)

Message = dict[str, Any]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# Secrets of the service that no block may see. Secrets of projects (MILLRACE_SECRET_*) are theirs to read.
WITHHELD = ("MILLRACE_DATABASE_URL", "MILLRACE_API_TOKEN")


class ProcessEvents(Protocol):
    """Who hears of a worker process. Called from the process's own reader thread, in order."""

    def on_message(self, process: WorkerProcess, message: Message) -> None: ...

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None: ...


class WorkerProcess:
    """One worker process and the channel to it."""

    def __init__(self, hello: Mapping[str, Any], events: ProcessEvents) -> None:
        ours, theirs = socket.socketpair()
        self._events = events
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self._send_lock = threading.Lock()
        self.last_heard = time.monotonic()
        with theirs:
            self._popen = subprocess.Popen(
                # -P: the current folder must not come before our packages on the path.
                [sys.executable, "-P", "-m", "service.executors.host", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name not in WITHHELD},
            )
        self.pid = self._popen.pid
        threading.Thread(target=self._read, name=f"read-{self.pid}", daemon=True).start()
        threading.Thread(target=self._await_exit, name=f"wait-{self.pid}", daemon=True).start()
        self.send({"type": "hello", **hello})

    def send(self, message: Message) -> None:
        """Send; a process that is gone is no error here, its exit is reported by `on_exit`."""
        with self._send_lock, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())

    def kill(self) -> None:
        """End the process and everything in its group, at once."""
        if self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Return the resident memory of the process and its descendants; 0 when it is gone."""
        try:
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        return sum(map(_resident_bytes, family))

    def join(self, timeout: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)

    def _read(self) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv_bytes(MAX_MESSAGE_BYTES))
                self.last_heard = time.monotonic()
                self._events.on_message(self, message)
        except (EOFError, OSError):
            pass
        except Exception:
            logger.exception("a worker process sent something unreadable", pid=self.pid)
        self.kill()
        exit_code = self._popen.wait()
        with self._send_lock:
            self._connection.close()
        self._socket.close()
        self._events.on_exit(self, exit_code)

    def _await_exit(self) -> None:
        # A child that a block forked may hold the other end, so the channel alone does not tell of the exit.
        self._popen.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


class Assignment(Protocol):
    """A run as the pool sees it: what to send, and who hears what becomes of it."""

    @property
    def project(self) -> str: ...

    @property
    def message(self) -> Message: ...

    def attach(self, process: WorkerProcess) -> None:
        """The run is now on this process."""

    def on_message(self, message: Message) -> None: ...

    def on_death(self, exit_code: int) -> None:
        """The process ended before it had sent the run's result."""


class Slot:
    """A place for one run: a process, replaced when it dies, is stale or served another project."""

    def __init__(self, hello: Mapping[str, Any], on_idle: Callable[[], None]) -> None:
        self._hello = hello
        self._on_idle = on_idle
        self._lock = threading.RLock()
        self._process: WorkerProcess | None = None
        self._assignment: Assignment | None = None
        self._sent = False  # the assignment went to the current process
        self._ready = False
        self._retiring = False
        self._project: str | None = None
        self._failed_starts = 0
        self._closing = False

    @property
    def is_idle(self) -> bool:
        return self._ready and self._assignment is None and not (self._retiring or self._closing)

    @property
    def project(self) -> str | None:
        """The project whose code the process has loaded; None while it has loaded none."""
        return self._project

    def start(self) -> None:
        with self._lock:
            self._ready, self._retiring, self._sent, self._project = False, False, False, None
            self._process = WorkerProcess(self._hello, self)

    def assign(self, assignment: Assignment) -> None:
        """Give a run to this idle slot. A process that holds another project's modules is replaced first."""
        with self._lock:
            assert self._process is not None
            self._assignment = assignment
            if self._project not in (None, assignment.project):
                self._process.send({"type": "shutdown"})
                return  # its exit starts a new process, and that one takes the run
            self._begin()

    def close(self) -> None:
        """End the process without a successor."""
        with self._lock:
            self._closing = True
            process = self._process
        if process is not None:
            process.send({"type": "shutdown"})
            process.join(timeout=1.0)
            process.kill()

    def on_message(self, process: WorkerProcess, message: Message) -> None:
        match message["type"]:
            case "ready":
                self._on_ready()
            case "beat" | "stale":
                pass  # a stale process exits by itself, and its successor takes the run
            case "result":
                self._on_result(message)
            case _:
                if self._assignment is not None:
                    self._assignment.on_message(message)

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None:
        with self._lock:
            self._failed_starts = 0 if self._ready else self._failed_starts + 1
            orphan = self._assignment if self._sent and exit_code != STALE_EXIT else None
            if orphan is not None:
                self._assignment = None
        if orphan is not None:
            orphan.on_death(exit_code)
        if not self._closing:
            self._restart()

    def _begin(self) -> None:
        assert self._process is not None
        assert self._assignment is not None
        self._project, self._sent = self._assignment.project, True
        self._process.last_heard = time.monotonic()  # an idle process keeps silent
        self._assignment.attach(self._process)
        self._process.send(self._assignment.message)

    def _on_ready(self) -> None:
        with self._lock:
            self._ready = True
            if self._assignment is not None:
                self._begin()
                return
        self._on_idle()

    def _on_result(self, message: Message) -> None:
        with self._lock:
            assignment, self._assignment, self._sent = self._assignment, None, False
            self._retiring = bool(message.get("retire"))
        if assignment is not None:
            assignment.on_message(message)
        self._on_idle()

    def _restart(self) -> None:
        if self._failed_starts and not self._closing:
            logger.error("a worker process ended before it was ready", tries=self._failed_starts)
            time.sleep(min(0.5 * 2**self._failed_starts, 30))  # this is the dead process's own thread
        if not self._closing:
            self.start()


# A process that finds its loaded modules changed on disk exits with this code; its run goes to its successor.
STALE_EXIT = 75


class ProcessExecutor:
    """A fixed number of slots, each with one warm process."""

    def __init__(self, slots: int, hello: Mapping[str, Any], on_idle: Callable[[], None]) -> None:
        self._slots = [Slot(hello, on_idle) for _ in range(slots)]

    def start(self) -> None:
        for slot in self._slots:
            slot.start()

    def idle_count(self) -> int:
        return sum(slot.is_idle for slot in self._slots)

    def assign(self, assignment: Assignment) -> None:
        """Give the run to an idle slot, rather one that has its project loaded. See `idle_count`."""
        idle = [slot for slot in self._slots if slot.is_idle]
        if not idle:
            raise RuntimeError("no idle slot: claim no more runs than idle_count()")
        order = {assignment.project: 0, None: 1}
        min(idle, key=lambda slot: order.get(slot.project, 2)).assign(assignment)

    def stop(self) -> None:
        closers = [threading.Thread(target=slot.close) for slot in self._slots]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()

"""Warm worker processes on this machine: starting them, speaking to them, ending them.

A process executes one run at a time. It speaks to the engine over one channel, in JSON and not in pickle:
block code runs there, and what it sends must not be able to run code here. It leads a process group of its
own, so that ending it ends everything a block has started.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

import psutil
import structlog

from service.running.executors.base import Assignment, Message

logger = structlog.get_logger(__name__)

RUNS = "service.running.executors.host"  # the module of the processes that execute runs
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# A process that is stopped reads nothing. Whoever sends must not wait for it, but go on to other runs.
SEND_SECONDS = 2
FAMILY_SECONDS = 1.0  # for so long a list of children is used: to make it costs a look at all processes
LONGEST_PAUSE_SECONDS = 30.0  # between two starts of a process that ends before it is ready

# Secrets of the service that no block may see. Secrets of projects (MILLRACE_SECRET_*) are theirs to read.
WITHHELD = ("MILLRACE_DATABASE_URL", "MILLRACE_API_TOKEN")

# Of Arrow's allocators this one gives memory back soonest: the peak of a streaming run was a fifth lower.
_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "jemalloc"}


class ProcessEvents(Protocol):
    """Who hears of a worker process. Called from the process's own reader thread, in order."""

    def on_message(self, process: WorkerProcess, message: Message) -> None: ...

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None: ...


class WorkerProcess:
    """One process that executes what is not ours, by default runs, and the channel to it."""

    def __init__(self, hello: Mapping[str, Any], events: ProcessEvents, *, module: str = RUNS) -> None:
        """Start it. Raises OSError when the system has no room for it."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._popen = _popen(module, theirs.fileno())
            except OSError:
                ours.close()
                raise
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
        self._events = events
        self._socket = ours
        self._connection = Connection(os.dup(ours.fileno()))
        self._send_lock = threading.Lock()
        self.last_heard = time.monotonic()
        self.pid = self._popen.pid
        self._family: list[psutil.Process] = []
        self._family_seen = -math.inf
        threading.Thread(target=self._read, name=f"read-{self.pid}", daemon=True).start()
        threading.Thread(target=self._await_exit, name=f"wait-{self.pid}", daemon=True).start()
        self.send({"type": "hello", **hello})

    def send(self, message: Message) -> None:
        """Send; a process that is gone is no error here, its exit is reported by `on_exit`.

        One that does not read is killed: half a message may be on its way, and after it nothing makes sense.
        """
        data = json.dumps(message).encode()
        with self._send_lock:
            try:
                self._connection.send_bytes(data)
            except BlockingIOError:
                logger.warning("a worker process takes no messages", pid=self.pid)
                self.kill()
            except OSError:
                return

    def kill(self) -> None:
        """End the process, its group, and those of its descendants that left the group, at once."""
        if self._popen.poll() is not None:
            return
        family = _family_of(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in family[1:]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    @property
    def is_stopped(self) -> bool:
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def memory_bytes(self) -> int:
        """Return the memory that the process and its descendants hold; 0 when it is gone.

        Pages of files that they have mapped are not theirs: the system takes them back when it needs them.
        """
        if time.monotonic() - self._family_seen > FAMILY_SECONDS:
            self._family = _family_of(self.pid)
            self._family_seen = time.monotonic()
        return sum(map(_held_bytes, self._family))

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


def _family_of(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _popen(module: str, channel: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: the current folder must not come before our packages on the path.
        [sys.executable, "-P", "-m", module, str(channel)],
        pass_fds=[channel],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    shown = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return {**_MEMORY, **shown} if sys.platform == "linux" else shown


def _held_bytes(process: psutil.Process) -> int:
    try:
        return _without_files(process.pid)
    except (OSError, KeyError, ValueError):
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _without_files(pid: int) -> int:
    """Return the resident memory of a process that is no page of a file. Raises where Linux does not tell."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        facts = dict(line.split(":", 1) for line in status if line.startswith(("RssAnon:", "RssShmem:")))
    return sum(int(facts[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024


class Slot:
    """A place for one run: a process, replaced when it dies, is stale or served another project.

    A run may be assigned at any moment at which the slot has none: when no process is ready for it, the next
    one takes it.
    """

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
        self._closing = threading.Event()

    @property
    def is_free(self) -> bool:
        return self._assignment is None

    @property
    def is_idle(self) -> bool:
        """A run that is assigned now begins at once."""
        return self._ready and self.is_free and not (self._retiring or self._closing.is_set())

    @property
    def project(self) -> str | None:
        """The project whose code the process has loaded; None while it has loaded none."""
        return self._project

    def start(self) -> None:
        """Start a process; on a thread of the process's own the slot hears what becomes of it."""
        with self._lock:
            if self._closing.is_set():
                return
            self._ready, self._retiring, self._sent, self._project = False, False, False, None
            self._process = WorkerProcess(self._hello, self)

    def assign(self, assignment: Assignment) -> None:
        """Give a run to this free slot. A process that holds another project's modules is replaced first."""
        with self._lock:
            self._assignment = assignment
            if not self._ready or self._retiring or self._process is None:
                return  # the process that becomes ready next takes it
            if self._project not in (None, assignment.project):
                self._process.kill()  # it has nothing in hand; its exit starts the one that takes the run
            else:
                self._begin()

    def close(self) -> None:
        """End the process without a successor."""
        with self._lock:
            self._closing.set()
            process = self._process
        if process is not None:
            process.send({"type": "shutdown"})
            process.join(timeout=1.0)
            process.kill()

    def on_message(self, process: WorkerProcess, message: Message) -> None:
        match message["type"]:
            case "ready":
                self._on_ready()
            case "stale":
                self._on_stale()
            case "beat":
                pass
            case "result":
                self._on_result(message)
            case _:
                if self._assignment is not None:
                    self._assignment.on_message(message)

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None:
        with self._lock:
            self._failed_starts = 0 if self._ready else self._failed_starts + 1
            orphan = self._assignment if self._sent else None
            if orphan is not None:
                self._assignment = None
        try:
            if orphan is not None:
                orphan.on_death(exit_code)
        finally:
            self._restart()

    def _begin(self) -> None:
        """Send the assigned run, unless it has ended while it waited for a process."""
        assert self._process is not None
        assert self._assignment is not None
        if not self._assignment.attach(self._process):
            self._assignment = None
            self._on_idle()
            return
        self._project, self._sent = self._assignment.project, True
        self._process.last_heard = time.monotonic()  # an idle process keeps silent
        self._process.send(self._assignment.message)

    def _on_ready(self) -> None:
        with self._lock:
            self._ready = True
            if self._assignment is not None:
                self._begin()
                return
        self._on_idle()

    def _on_stale(self) -> None:
        """The process found its modules changed on disk and exits; its successor takes the run, untouched."""
        with self._lock:
            self._sent = False

    def _on_result(self, message: Message) -> None:
        with self._lock:
            assignment, self._assignment, self._sent = self._assignment, None, False
            self._retiring = bool(message.get("retire"))
        if assignment is not None:
            assignment.on_message(message)
        self._on_idle()

    def _restart(self) -> None:
        """Start the next process, on the thread of the one that died, however often that takes."""
        while not self._closing.is_set():
            if self._failed_starts:
                logger.error("a worker process ended before it was ready", tries=self._failed_starts)
                self._closing.wait(min(0.5 * 2.0 ** min(self._failed_starts, 10), LONGEST_PAUSE_SECONDS))
            try:
                self.start()
            except OSError as error:
                logger.error("cannot start a worker process", error=str(error))
                self._failed_starts += 1
            else:
                return


class ProcessExecutor:
    """A number of slots, each with one warm process, and as many beside them as are lent."""

    def __init__(self, slots: int, hello: Mapping[str, Any], on_idle: Callable[[], None]) -> None:
        self._hello = hello
        self._on_idle = on_idle
        self._slots = [Slot(hello, on_idle) for _ in range(slots)]
        self._lent: list[Slot] = []

    def start(self) -> None:
        for slot in self._slots:
            slot.start()

    def idle_count(self) -> int:
        return sum(slot.is_idle for slot in self._slots)

    def lend(self, count: int) -> None:
        """Have `count` slots beside the others; surplus ones end as soon as they are free."""
        while len(self._lent) < count:
            slot = Slot(self._hello, self._on_idle)
            self._lent.append(slot)
            slot.start()
        for slot in [slot for slot in self._lent if slot.is_free][: len(self._lent) - count]:
            self._lent.remove(slot)
            threading.Thread(target=slot.close, name="close-lent", daemon=True).start()

    def lent_idle_count(self) -> int:
        return sum(slot.is_idle for slot in self._lent)

    def assign(self, assignment: Assignment) -> None:
        """Give the run to an idle slot, rather one of the first ones, rather one that has its project loaded.

        An idle process may have died since the claim; then its slot's next process takes the run.
        """
        free = [slot for slot in (*self._slots, *self._lent) if slot.is_free]
        if not free:
            raise RuntimeError("no free slot: claim no more runs than idle_count()")
        order = {assignment.project: 0, None: 1}
        best = min(free, key=lambda slot: (not slot.is_idle, slot in self._lent, order.get(slot.project, 2)))
        best.assign(assignment)

    def stop(self) -> None:
        closers = [threading.Thread(target=slot.close) for slot in (*self._slots, *self._lent)]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()

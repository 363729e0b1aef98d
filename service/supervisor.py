"""`millrace start`: one process that starts the others, starts again what dies, and stops them in order.

It stays small on purpose (no store, no project, no Flask), so that there is nothing in it that can fail. The
listening socket is its own: when a web process dies, connections wait in the socket's queue for the next one
instead of being refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from service.alarm import Alarm
from service.errors import SettingsError
from service.exits import DONE, WRONG_USE
from service.lifeline import Lifeline

logger = structlog.get_logger(__name__)

_LIVED_WELL_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 10.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def open_listener(host: str, port: int) -> socket.socket:
    """Bind and listen. Raises SettingsError that says why when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        remedy = (
            "Is another service (or another `millrace start`) there? Choose another port by --port "
            "or MILLRACE_PORT; 0 takes any free one."
            if error.errno == errno.EADDRINUSE
            else "Choose an address of this machine by --host or MILLRACE_HOST, such as 127.0.0.1, "
            "and a port above 1023."
        )
        reason = (error.strerror or str(error)).lower()
        raise SettingsError(f"cannot listen on {host}:{port}: {reason}. {remedy}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL at which a browser on this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


@dataclass(frozen=True)
class Role:
    """A process to keep alive: its command and the descriptors it inherits."""

    name: str
    command: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


def millrace_command(*arguments: str) -> tuple[str, ...]:
    """Return what starts another `millrace` process of this installation."""
    # -P: the current folder may be a project, whose `pipelines/` must not shadow our package.
    return (sys.executable, "-P", "-m", "service.cli", *arguments)


@dataclass
class _Child:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0  # due time of the next start while `process` is None
    quick_deaths: int = 0

    def pause_after_death(self, now: float) -> float:
        """Return how long to wait before the next start: nothing at first, longer when it keeps dying."""
        if now - self.started_at >= _LIVED_WELL_SECONDS:
            self.quick_deaths = 0
        self.quick_deaths += 1
        if self.quick_deaths == 1:
            return 0.0
        return min(0.25 * 2.0 ** (self.quick_deaths - 2), _LONGEST_PAUSE_SECONDS)


@dataclass
class Supervisor:
    """Keeps one process per role alive until a stop signal comes, or a child says its use is wrong."""

    roles: Sequence[Role]
    lifeline: Lifeline
    environ: Mapping[str, str]
    stop_seconds: float  # after that, what still lives is killed
    on_stop: Callable[[], None] = lambda: None
    _children: list[_Child] = field(init=False)
    _stop_signals_seen: int = field(default=0, init=False)
    _refused: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._children = [_Child(role) for role in self.roles]

    def run(self) -> int:
        """Supervise until the end and return the exit code."""
        with Alarm((*_STOP_SIGNALS, signal.SIGCHLD), self._note_signal) as alarm:
            try:
                while not self._stop_signals_seen and not self._refused:
                    self._start_due()
                    alarm.wait(self._seconds_to_next_start())
                    self._reap()
            finally:
                self._stop_all(alarm)
        return WRONG_USE if self._refused else DONE

    def _note_signal(self, number: int) -> None:
        if number in _STOP_SIGNALS:
            self._stop_signals_seen += 1

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.start_at <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        now = child.started_at = time.monotonic()
        try:
            child.process = subprocess.Popen(
                child.role.command,
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=(self.lifeline.reading_end, *child.role.descriptors),
                process_group=0,  # so that Ctrl-C reaches us alone, and the stop is in order
            )
        except OSError as error:  # no memory or no room for a process: that may pass
            child.start_at = now + max(child.pause_after_death(now), 0.25)
            logger.error("could not start a process", role=child.role.name, error=str(error))
            return
        logger.info("process started", role=child.role.name, pid=child.process.pid)

    def _seconds_to_next_start(self) -> float | None:
        due = [child.start_at for child in self._children if child.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _reap(self) -> None:
        for child in self._children:
            if child.process is None or (code := child.process.poll()) is None:
                continue
            if code == WRONG_USE:
                self._refused = True
            pid, child.process = child.process.pid, None
            if self._stop_signals_seen or self._refused:
                continue
            now = time.monotonic()
            pause = child.pause_after_death(now)
            child.start_at = now + pause
            logger.warning(
                "process died, starting it again",
                role=child.role.name,
                pid=pid,
                exit_code=code,
                pause_seconds=pause,
            )

    def _stop_all(self, alarm: Alarm) -> None:
        self.on_stop()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self.stop_seconds
        while any(child.process for child in self._children):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._stop_signals_seen > 1:  # a second Ctrl-C means: now
                self._kill_all()
                return
            alarm.wait(remaining)
            self._reap()
        logger.info("stopped")

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.send_signal(number)

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is None:
                continue
            logger.warning("process did not stop in time, killing it", role=child.role.name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
            child.process = None

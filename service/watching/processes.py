"""The engine's end of sensor processes: warm, pooled, bounded, and ended when a tick hangs.

A tick has a process to itself, so that ending a hung one hurts no other. Ticks of *shared* sensors, which
listen for most of their lives, share processes instead: a hung one is given up at once, and its process is
ended as soon as the ticks beside it have come to their ends.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from sensors.base import Page, SensorError
from service.running.executors.base import Message
from service.running.executors.process import WorkerProcess
from service.settings import Settings
from service.watching.messages import TickRequest, tick_message
from service.watching.remote_tick import RemoteTick, StaleProcess

logger = structlog.get_logger(__name__)

MODULE = "service.watching.host"
MOST_PROCESSES = 16
LISTENERS_PER_PROCESS = 8
IDLE_SECONDS = 60.0  # so long a process that nobody uses stays warm
GRACE_SECONDS = 10.0  # for a tick that was told to end


class SensorProcess:
    """One sensor process, and what its ticks have said."""

    def __init__(self, hello: Mapping[str, Any], root: Path) -> None:
        """Start it. Raises OSError when the system has no room for it."""
        self.root = root  # of the one project whose code it may load
        self.is_retiring = False  # it takes no further tick
        self.is_listening = False  # its ticks are of shared sensors
        self.idle_since = time.monotonic()
        self._ticks: dict[int, queue.SimpleQueue[Message]] = {}
        self._lock = threading.Lock()
        self._process = WorkerProcess(hello, self, module=MODULE)
        self.pid = self._process.pid

    @property
    def tick_count(self) -> int:
        return len(self._ticks)

    def has_room(self, root: Path, shared: bool) -> bool:
        if self.is_retiring or self.root != root:
            return False
        if not self._ticks:
            return True
        return shared and self.is_listening and len(self._ticks) < LISTENERS_PER_PROCESS

    def begin(self, tick: int, message: Message) -> queue.SimpleQueue[Message]:
        """Send a tick; its answers come to the queue that is returned."""
        answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._lock:
            self._ticks[tick] = answers
            if self.is_retiring:
                answers.put({"type": "died", "exit_code": None})
        self._process.send(message)
        return answers

    def send(self, message: Message) -> None:
        self._process.send(message)

    def end(self, tick: int) -> None:
        """The tick is over. The last one of a process that takes no more ends that."""
        with self._lock:
            self._ticks.pop(tick, None)
            self.idle_since = time.monotonic()
            is_over = self.is_retiring and not self._ticks
        if is_over:
            self.kill()

    def give_up(self) -> None:
        """A tick hangs: take no more, and end with the last one that does not."""
        self.is_retiring = True

    def kill(self) -> None:
        self.is_retiring = True
        self._process.kill()

    def join(self) -> None:
        self._process.join(1.0)

    def on_message(self, process: WorkerProcess, message: Message) -> None:
        if message["type"] == "stale":
            self.is_retiring = True
        answers = self._ticks.get(message.get("tick", -1))
        if answers is not None:  # a tick that was given up has nobody who listens
            answers.put(message)

    def on_exit(self, process: WorkerProcess, exit_code: int) -> None:
        with self._lock:
            self.is_retiring = True
            for answers in self._ticks.values():
                answers.put({"type": "died", "exit_code": exit_code})


class SensorProcesses:
    """Ticks sensors in processes of this machine. Nothing is started before the first tick."""

    def __init__(self, settings: Settings, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._hello = {"secrets": str(settings.home / "secrets")}
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._processes: list[SensorProcess] = []
        self._numbers = itertools.count(1)
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(process.pid for process in self._processes)

    def pages(
        self, request: TickRequest, *, shared: bool = False, is_stopping: Callable[[], bool] = bool
    ) -> Iterator[Page]:
        """Tick in a sensor process, and yield its pages.

        Each page counts as committed when the next one is asked for. Closed before that (close()), the tick
        hears so and gives back what it holds. Raises SensorError, also for a tick that does not end after its
        time, and for a process that dies.
        """
        while True:
            tick = self._begin(request, shared, is_stopping)
            try:
                yield from tick.pages()
                return
            except StaleProcess:
                continue  # nothing was ticked; the next process has the project's modules as they are now
            finally:
                tick.close()
                self._sweep()

    def close(self) -> None:
        """End all processes, and whatever they still do."""
        with self._lock:
            self._is_closed = True
            processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
        for process in processes:
            process.join()

    def _begin(self, request: TickRequest, shared: bool, is_stopping: Callable[[], bool]) -> RemoteTick:
        number = next(self._numbers)
        message = tick_message(request, number, alone=not shared)
        with self._lock:
            process = self._with_room(request.root, shared)
            answers = process.begin(number, message)
        return RemoteTick(process, number, answers, request.seconds, self._grace_seconds, is_stopping)

    def _with_room(self, root: Path, shared: bool) -> SensorProcess:
        self._drop_unused(lambda process: process.is_retiring and not process.tick_count)
        for process in self._processes:
            if process.has_room(root, shared):
                break
        else:
            process = self._start(root)
        process.is_listening = shared
        return process

    def _start(self, root: Path) -> SensorProcess:
        if self._is_closed:
            raise SensorError("the engine is stopping; the tick goes on after the next start")
        if len(self._processes) >= MOST_PROCESSES:
            self._drop_unused(lambda process: not process.tick_count)
        if len(self._processes) >= MOST_PROCESSES:
            raise SensorError(f"all {MOST_PROCESSES} sensor processes are busy; the tick is tried again")
        try:
            process = SensorProcess(self._hello, root)
        except OSError as error:
            raise SensorError(f"no sensor process can be started: {error}") from error
        self._processes.append(process)
        return process

    def _sweep(self) -> None:
        """End processes that nobody has used for long, or will use again."""
        before = time.monotonic() - IDLE_SECONDS
        with self._lock:
            self._drop_unused(lambda process: process.is_retiring or process.idle_since < before)

    def _drop_unused(self, is_unwanted: Callable[[SensorProcess], bool]) -> None:
        unused = [one for one in self._processes if not one.tick_count and is_unwanted(one)]
        for process in unused:
            self._processes.remove(process)
            process.kill()

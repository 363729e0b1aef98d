"""One tick in a sensor process, as the engine has it: a series of pages, bounded in time."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import structlog

from sensors.base import Page, SensorError
from service.running.executors.base import Message
from service.watching.messages import page_of

logger = structlog.get_logger(__name__)

START_SECONDS = 60.0  # for a process to start, on a machine that has much else to do
LOOK_SECONDS = 0.25  # how often a waiting tick looks whether it is to stop

_ENDS = ("done", "failed", "died", "stale")


class StaleProcess(Exception):
    """The process had loaded modules that have changed since. It did nothing, and ends."""


class GivenUp(SensorError):
    """The tick hangs, and does not hear."""


class Place(Protocol):
    """The process in which a tick goes on."""

    def send(self, message: Message) -> None: ...

    def end(self, tick: int) -> None: ...

    def give_up(self) -> None: ...


class RemoteTick:
    """Told to end after its time; given up when it has not done so within the grace."""

    def __init__(
        self,
        process: Place,
        number: int,
        answers: queue.SimpleQueue[Message],
        seconds: float,
        grace_seconds: float,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._process = process
        self._number = number
        self._answers = answers
        self._seconds = seconds
        self._grace_seconds = grace_seconds
        self._is_stopping = is_stopping
        self._deadline = time.monotonic() + seconds
        self._begin_until: float | None = time.monotonic() + START_SECONDS  # None: it has begun
        self._is_told = False
        self._give_up_at: float | None = None  # counts only while the process has the word
        self._is_over = False

    def pages(self) -> Iterator[Page]:
        """Yield the pages; go on in the process when the next one is asked for. Raises SensorError."""
        parts: list[Message] = []
        while True:
            message = self._hear()
            match message["type"]:
                case "part":
                    parts.append(message)
                case "page":
                    yield page_of(parts, message)
                    parts = []
                    self._tell("next")
                case "done":
                    return
                case "failed":
                    raise SensorError(message["error"])
                case "stale":
                    raise StaleProcess
                case "died":
                    raise SensorError(_death(message["exit_code"]))

    def close(self) -> None:
        """End the tick where it is: a page that was not committed is given back."""
        if not self._is_over:
            self._tell("close")
            self._order_end()
            try:
                while not self._is_over:
                    self._hear()
            except SensorError as error:
                logger.warning("a sensor tick did not end", error=str(error))
        self._process.end(self._number)

    def _hear(self) -> Message:
        """Return what the process says next. Raises SensorError when that does not come in time."""
        while True:
            is_over = self._begin_until is None and time.monotonic() > self._deadline
            if is_over or self._is_stopping():
                self._order_end()
            try:
                message = self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._lose_patience()
                continue
            if message["type"] == "begun":
                self._begun()
                continue
            self._is_over = message["type"] in _ENDS
            return message

    def _begun(self) -> None:
        """Count the time from here: a process may have had to be started first."""
        self._begin_until = None
        self._deadline = time.monotonic() + self._seconds
        if self._give_up_at is not None:
            self._give_up_at = time.monotonic() + self._grace_seconds

    def _tell(self, kind: str) -> None:
        self._process.send({"type": kind, "tick": self._number})
        if self._give_up_at is not None:
            self._give_up_at = time.monotonic() + self._grace_seconds

    def _order_end(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._give_up_at = 0.0
            self._tell("stop")

    def _lose_patience(self) -> None:
        give_up_at = self._give_up_at if self._begin_until is None else self._begin_until
        if give_up_at is None or time.monotonic() < give_up_at:
            return
        self._is_over = True
        self._process.give_up()
        raise GivenUp(
            f"the tick did not end after {self._seconds:g} s, nor within {self._grace_seconds:g} s of being "
            "told to, and was given up; what it had committed stays. Find out what it waits for, or raise "
            "`timeout` of the trigger"
        )


def _death(exit_code: int | None) -> str:
    how = "" if exit_code is None else f" by signal {-exit_code}" if exit_code < 0 else f" with {exit_code}"
    return (
        f"the sensor process ended in the middle of the tick{how}; what it had committed stays. "
        "Its last words are in the log of the engine"
    )

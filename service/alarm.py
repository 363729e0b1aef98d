"""Sleeping until a signal comes."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType


class Alarm:
    """Sleeps until a signal comes or the time is over, without a race between looking and sleeping."""

    def __init__(self, signals: Sequence[signal.Signals], on_signal: Callable[[int], None]) -> None:
        """Within `with`, the next `wait` tells each of `signals` to `on_signal`; it has no other effect."""
        self._signals = tuple(signals)
        self._on_signal = on_signal
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Alarm:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._selector.register(self._reader, selectors.EVENT_READ)
        self._old_descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old_handlers = {number: signal.signal(number, _ignore) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        self._selector.close()
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float | None) -> None:
        if not self._selector.select(seconds):
            return
        for number in self._reader.recv(4096):
            if number in self._signals:
                self._on_signal(number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A Python handler must be there for `set_wakeup_fd` to work; the byte it writes says everything."""

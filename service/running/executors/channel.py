"""The worker process's end of the channel to its engine."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NoReturn

from service.running.executors.base import Message


def die() -> NoReturn:
    """End this process and everything in its group, at once: nobody wants its work any more."""
    os.killpg(0, signal.SIGKILL)
    os._exit(1)  # not reached; says so to the type checker


def outlive_sigterm() -> None:
    """Leave it to the engine when to end: a service manager sends SIGTERM to all processes at once.

    By a handler and not by SIG_IGN, which the programs that blocks start would inherit.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class Channel:
    """Sends from any thread; one thread receives. Without the engine there is no reason to live."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # programs that blocks start have no business with it
        self._connection = Connection(descriptor)
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._abandon)

    def send(self, message: Message) -> None:
        data = json.dumps(message).encode()
        with self._lock:
            try:
                self._connection.send_bytes(data)
            except OSError:
                self._hang_up()

    def messages(self) -> Iterator[Message]:
        """Yield what the engine says, for ever; the end of the channel ends the process."""
        while True:
            try:
                yield json.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._hang_up()

    def has_news(self) -> bool:
        """Say whether something has come that `messages` has not yielded yet."""
        try:
            return self._connection.poll()
        except OSError:
            return False

    def _abandon(self) -> None:
        # A child that block code forked must neither speak as this process nor keep the channel open.
        self._lock = threading.Lock()
        self._connection.close()

    def _hang_up(self) -> None:
        """Act on the loss of the engine."""
        if self._connection.closed:
            os._exit(0)  # a forked child that ran on into our code
        die()

"""The sensor process: ticks the sensors that must not be ticked in an engine, and all dry ticks.

Started as `python -m service.watching.host FD`. It writes nothing but what it sends. A tick has a thread; the
sensor's generator lives there from its first page to its end.
"""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Any, cast

from pipelines.errors import MillraceError
from pipelines.io.config import Profiles
from pipelines.secrets import Secrets
from pipelines.surroundings import add_project_to_path, restored_process
from sensors.base import OptionsError, Page, Sensor, SensorError, TickContext
from sensors.registry import UnknownSensorError, configure
from service.running.executors.base import Message
from service.running.executors.channel import Channel, die, outlive_sigterm
from service.running.executors.leftovers import adopt_orphans
from service.running.executors.modules import LoadedModules
from service.watching.context import tick_context
from service.watching.messages import TickRequest, page_messages, request_of

LAST_SECONDS = 3.0  # what listening ticks have to give back what they hold, once the engine is gone


class EngineGone(Exception):
    """There is nobody at the other end of the channel."""


class TickChannel(Channel):
    """A channel whose users end by themselves when the engine is gone: some hold what others wait for."""

    def _hang_up(self) -> None:
        if self._connection.closed:
            super()._hang_up()  # a forked child
        raise EngineGone


class Host:
    """Reads the channel in the main thread, and gives every tick a thread of its own."""

    def __init__(self, channel: Channel, hello: Message) -> None:
        self._channel = channel
        self._secrets = Secrets(Path(hello["secrets"]), os.environ)
        self._modules = LoadedModules()
        self._ticks: dict[int, _Tick] = {}
        self._listening: dict[int, threading.Thread] = {}  # the ticks that are not alone

    def serve(self) -> None:
        """Tick what the engine asks for, until told to end. Returns only to leave the process."""
        try:
            self._serve()
        except EngineGone:
            self._give_back()
            die()

    def _serve(self) -> None:
        for message in self._channel.messages():
            match message["type"]:
                case "shutdown":
                    return
                case "tick":
                    if message["alone"] and self._modules.have_changed():
                        self._channel.send({"type": "stale", "tick": message["tick"]})
                        return
                    self._begin(message)
                case kind:
                    self._tell(kind, message["tick"])

    def _begin(self, message: Message) -> None:
        request = request_of(message)
        self._modules.watch(request.root)
        profiles = Profiles(request.root, environ=os.environ, secrets=self._secrets)
        tick = _Tick(self._channel, message["tick"], request, profiles)
        self._ticks[message["tick"]] = tick
        name = f"tick-{message['tick']}"
        thread = threading.Thread(target=self._work, args=(tick, message), name=name, daemon=True)
        self._channel.send({"type": "begun", "tick": message["tick"]})
        if not message["alone"]:
            self._listening[message["tick"]] = thread
        thread.start()

    def _work(self, tick: _Tick, message: Message) -> None:
        with suppress(EngineGone):
            self._work_on(tick, message)
        self._listening.pop(message["tick"], None)

    def _work_on(self, tick: _Tick, message: Message) -> None:
        # Only a tick that is alone may have the working folder and the environment to itself.
        surroundings: AbstractContextManager[None] = nullcontext()
        if message["alone"]:
            add_project_to_path(tick.request.root)
            surroundings = restored_process(tick.request.root)
        try:
            with surroundings:
                last = tick.run()
        except OSError as error:  # the project's folder is gone
            last = {"type": "failed", "tick": message["tick"], "error": str(error)}
        if message["alone"]:
            self._modules.remember()
        self._ticks.pop(message["tick"], None)
        self._channel.send(last)  # after all else: the engine may send the next tick at once

    def _give_back(self) -> None:
        """Have what listening ticks took and nobody committed go to other engines at once."""
        until = time.monotonic() + LAST_SECONDS
        for tick in [*self._ticks.values()]:
            tick.hear("stop")
            tick.hear("close")
        for thread in [*self._listening.values()]:
            thread.join(max(0.0, until - time.monotonic()))

    def _tell(self, kind: str, number: int) -> None:
        tick = self._ticks.get(number)
        if tick is not None:  # it may just have ended by itself
            tick.hear(kind)


class _Tick:
    """One tick: a generator that goes on from page to page as the engine says."""

    def __init__(self, channel: Channel, number: int, request: TickRequest, profiles: Profiles) -> None:
        self.request = request
        self._channel = channel
        self._number = number
        self._profiles = profiles
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def hear(self, kind: str) -> None:
        if kind == "stop":
            self._stopping.set()
        else:
            self._answers.put(kind)

    def run(self) -> Message:
        """Tick to the end and return the last message. Raises nothing that the sensor raises."""
        try:
            self._run()
        except EngineGone:
            raise
        except (SensorError, OptionsError, UnknownSensorError, MillraceError) as error:
            return {"type": "failed", "tick": self._number, "error": str(error)}
        except BaseException as error:  # a project's code may raise SystemExit, too
            traceback.print_exc()  # the operator's: the sentence alone would not show where
            return {"type": "failed", "tick": self._number, "error": f"{type(error).__name__}: {error}"}
        return {"type": "done", "tick": self._number}

    def _run(self) -> None:
        sensor: Sensor[Any] = configure(self.request.sensor, self.request.options)
        with closing(cast(Any, sensor.tick(self.request.cursor, self._context()))) as pages:
            self._send_all(pages)

    def _send_all(self, pages: Iterator[Page]) -> None:
        for page in pages:
            for message in self._messages(page):
                self._channel.send(message)
            if self._answers.get() == "close":
                return

    def _messages(self, page: Page) -> list[Message]:
        try:
            return list(page_messages(page, self._number))
        except (TypeError, ValueError) as error:
            raise SensorError(
                f"the sensor '{self.request.sensor}' returned an event that is not plain JSON: {error}"
            ) from error

    def _context(self) -> TickContext:
        return tick_context(self.request, self._profiles, is_stopping=self._stopping.is_set)


def main() -> None:
    os.dup2(2, 1)  # what a project's code prints must not mix with the output of a command
    outlive_sigterm()
    channel = TickChannel(int(sys.argv[1]))
    hello = next(channel.messages())
    adopt_orphans()
    gc.collect()
    gc.freeze()
    host = Host(channel, hello)
    channel.send({"type": "ready"})
    host.serve()
    sys.stderr.flush()
    os._exit(0)  # threads of SDKs would keep the interpreter


if __name__ == "__main__":
    main()

"""The engine process: executes runs, ticks clocks and sensors, rescues and prunes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from importlib.metadata import version

import structlog

from service import lifeline
from service.alarm import Alarm
from service.backfills.driver import Driver
from service.clocks.scheduler import Scheduler
from service.clocks.settler import Settler
from service.errors import StoreError
from service.maintenance import Maintenance
from service.outgoing.announcer import Announcer
from service.outgoing.sender import Sender
from service.projects import ProjectsWatch
from service.running.worker import Worker
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import Settings
from service.store import engines
from service.store.ids import new_id
from service.store.session import Commit
from service.watching.watcher import Watcher

logger = structlog.get_logger(__name__)

# What the engine may take beyond the drain, when nobody is left who would kill it.
_BEYOND_DRAIN_SECONDS = 5.0


class Engine:
    """All parts of one engine process, started and stopped in order."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._dispatcher = build_dispatcher(runtime)
        self._worker = Worker(runtime, self.id)
        self._watcher = Watcher(runtime, self._dispatcher, engine_id=self.id)
        self._scheduler = Scheduler(runtime, self._dispatcher, self._watcher)
        self._settler = Settler(runtime.database, self._dispatcher, runtime.clock)
        self._announcer = Announcer(runtime, self._dispatcher)
        self._sender = Sender(runtime)
        self._backfills = Driver(runtime, self._dispatcher)
        self._maintenance = Maintenance(runtime)
        self._heart = Heart(runtime, self.id)
        self._watch = ProjectsWatch(
            runtime.projects,
            every_seconds=runtime.settings.refresh_seconds,
            on_change=(self._scheduler.reconcile, self._announcer.look_again),
        )

    def start(self) -> None:
        self._runtime.wakeups.start()
        self._dispatcher.start()
        self._worker.start()
        self._watcher.start()
        self._scheduler.start()
        self._backfills.start()
        self._settler.start()
        self._announcer.start()
        self._sender.start()
        self._maintenance.start()
        self._watch.start()
        self._heart.start()  # last: it says that this engine works
        logger.info("engine started", engine=self.id)

    def stop(self) -> None:
        """Start nothing new, let running blocks end within the drain, and give back the rest."""
        self._worker.drain()  # first: what is stopped before it may have a long tick in hand
        self._watch.stop()
        self._scheduler.stop()
        self._backfills.stop()
        self._watcher.close()
        self._settler.stop()
        self._maintenance.stop()
        self._worker.stop()
        self._announcer.stop()  # what the worker ended last is announced as well
        self._sender.stop()
        self._dispatcher.stop()
        self._heart.stop()
        self._runtime.close()
        logger.info("engine stopped", engine=self.id)


class Heart:
    """Shows in the store that this engine lives; `/readyz` looks there."""

    def __init__(self, runtime: Runtime, engine_id: str) -> None:
        self._runtime = runtime
        self._engine_id = engine_id
        self._version = version("millrace")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heart", daemon=True)

    def start(self) -> None:
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(StoreError):  # a store that is gone has to find out by itself
            self._runtime.database.write(Commit.ENGINE, lambda tx: engines.leave(tx, self._engine_id))

    def _beat_on(self) -> None:
        while not self._stopping.wait(self._runtime.settings.renew_seconds):
            try:
                self._beat()
            except StoreError as error:
                logger.warning("could not show that this engine lives", error=str(error))

    def _beat(self) -> None:
        slots = self._runtime.settings.slots
        self._runtime.database.write(
            Commit.ENGINE, lambda tx: engines.beat(tx, self._engine_id, slots=slots, version=self._version)
        )


def serve_engine(settings: Settings, lifeline_end: int | None) -> None:
    """Run an engine until SIGTERM or SIGINT, or until the supervisor is gone.

    While it stops, a second signal ends it at once.
    """
    seen: list[int] = []
    with Alarm((signal.SIGTERM, signal.SIGINT), seen.append) as alarm:
        if lifeline_end is not None:
            lifeline.watch(
                lifeline_end, lifeline.terminate_self(settings.drain_seconds + _BEYOND_DRAIN_SECONDS)
            )
        engine = Engine(build_runtime(settings))
        engine.start()
        while not seen:
            alarm.wait(None)
    engine.stop()

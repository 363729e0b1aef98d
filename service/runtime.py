"""What every part of the service shares, built in one place and handed in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pipelines.crash import CrashPoints
from pipelines.secrets import Secrets
from service.clock import Clock, utc_now
from service.dispatcher import Dispatcher
from service.errors import SettingsError
from service.matching.retention import Lifetime
from service.projects import Projects
from service.running.executors.base import Executor
from service.running.executors.messages import hello_of
from service.running.executors.process import ProcessExecutor
from service.settings import Settings
from service.store.migrate import migrate
from service.store.session import Database
from service.store.wakeups import WakeUps


@dataclass(frozen=True)
class Runtime:
    """The shared parts. Building it starts no thread, so that a process may still fork."""

    settings: Settings
    clock: Clock
    database: Database
    wakeups: WakeUps
    projects: Projects
    secrets: Secrets
    environ: Mapping[str, str]
    crash: CrashPoints

    def close(self) -> None:
        self.wakeups.close()
        self.database.close()


def build_runtime(settings: Settings, *, clock: Clock = utc_now) -> Runtime:
    """Open (and migrate) the store and load the projects."""
    _make_home(settings.home)
    crash = CrashPoints(settings.crash_at)
    database = Database(settings.database_url, home=settings.home, crash=crash)
    migrate(database)
    secrets = Secrets(settings.home / "secrets", os.environ)
    return Runtime(
        settings=settings,
        clock=clock,
        database=database,
        wakeups=WakeUps(database),
        projects=Projects(settings.project, secrets=secrets),
        secrets=secrets,
        environ=os.environ,
        crash=crash,
    )


def _make_home(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)  # secrets and data of runs lie in it
    except OSError as error:
        raise SettingsError(
            f"cannot make the folder {home} for the service's state: {error.strerror}. "
            "Name one that can be written by MILLRACE_HOME"
        ) from error


def build_executor(settings: Settings, *, slots: int, on_idle: Callable[[], None]) -> Executor:
    """Return the place where runs execute, as the settings choose it. `on_idle`: a slot became free."""
    match settings.executor:
        case "process":
            return ProcessExecutor(slots, hello_of(settings), on_idle)


def build_dispatcher(runtime: Runtime) -> Dispatcher:
    """Wire the room that every event passes. Its threads begin with `start`."""
    return Dispatcher(
        runtime.database,
        runtime.projects,
        runtime.clock,
        wakeups=runtime.wakeups,
        environ=runtime.environ,
        secrets=runtime.secrets,
        max_body_bytes=runtime.settings.max_body_bytes,
        refused_limit=runtime.settings.refused_limit,
        max_hops=runtime.settings.max_hops,
        kept=Lifetime(
            timedelta(days=runtime.settings.payload_days), timedelta(days=runtime.settings.event_days)
        ),
    )

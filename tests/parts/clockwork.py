"""A small real service for tests of the clock: a project, a real store, and time that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from service.dispatcher import Dispatcher
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import Settings
from service.store import events, runs, ticks
from service.store.session import Commit
from service.store.ticks import Tick
from service.store.values import Run, StoredEvent
from tests.parts.stores import lay_store

PIPELINE = """
name: taxi
type: python
blocks:
- uuid: load
  name: load
  type: data_loader
  language: python
  upstream_blocks: []
"""
BLOCK = """
from pipelines import data_loader

@data_loader
def load(**kwargs):
    return 1
"""


@dataclass
class Now:
    """A clock that a test sets."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, **span: float) -> None:
        self.moment += timedelta(**span)


def write_project(root: Path, triggers: str) -> None:
    """Make a project of one pipeline, `taxi`, that has these triggers."""
    folder = root / "pipelines" / "taxi"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "metadata.yaml").write_text("name: city\n")
    (folder / "metadata.yaml").write_text(PIPELINE)
    (folder / "triggers.yaml").write_text(triggers)
    (root / "data_loaders").mkdir(exist_ok=True)
    (root / "data_loaders" / "load.py").write_text(BLOCK)


@dataclass
class Clockwork:
    """One engine's view of the project and the store."""

    runtime: Runtime
    dispatcher: Dispatcher
    now: Now

    @property
    def root(self) -> Path:
        return self.runtime.projects.default.root

    def trigger(self, name: str) -> CompiledTrigger:
        return self.dispatcher.triggers("city")["taxi", name]

    def rewrite(self, triggers: str) -> None:
        write_project(self.root, triggers)
        self.runtime.projects.refresh()

    def seed_tick(self, trigger: str, at: datetime) -> None:
        """Let `at` be the last tick on record."""
        tick = Tick("city", "taxi", trigger, at, "ran")
        self.runtime.database.write(Commit.TICK, lambda tx: ticks.record_tick(tx, tick))

    def ticks(self, trigger: str) -> list[Tick]:
        """Return the ticks on record, the oldest first."""
        with self.runtime.database.read() as connection:
            return ticks.listing(connection, "city", "taxi", trigger, limit=2000)[::-1]

    def events(self) -> list[StoredEvent]:
        with self.runtime.database.read() as connection:
            return events.listing(connection, project="city", limit=1000)[::-1]

    def runs(self) -> list[Run]:
        with self.runtime.database.read() as connection:
            return runs.listing(connection, limit=1000)[::-1]


Build = Callable[[str], Clockwork]


def build_clockwork(root: Path, home: Path, database_url: str | None, triggers: str, now: Now) -> Clockwork:
    """Build an engine's view. A second one on the same folders is a second engine on the same store."""
    write_project(root, triggers)
    chosen = {} if database_url is None else {"database_url": database_url}
    lay_store(home)
    runtime = build_runtime(Settings(project=(root,), home=home, **chosen), clock=now)
    return Clockwork(runtime, build_dispatcher(runtime), now)

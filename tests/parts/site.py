"""The web application over a real store, without a server: for tests of the API, the page and the guard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from service.app import create_app
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import load_settings
from service.store import engines, events, runs
from service.store.ids import new_id
from service.store.session import Commit
from service.store.values import (
    BlockEnded,
    BlockStarted,
    BlockState,
    NewEvent,
    NewMatch,
    NewRun,
    Outcome,
    Pin,
    Recorded,
    Report,
    Run,
    RunEnded,
    RunState,
)
from service.web.parts import WebParts
from tests.parts.stores import lay_store

NOW = datetime(2024, 1, 31, 5, tzinfo=UTC)


class ShiftingClock:
    """The real time, and as much later as a test wants."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.shift


@dataclass(frozen=True)
class Site:
    """The app, its client (which speaks from loopback), and short ways to put things into the store."""

    app: Flask
    runtime: Runtime
    clock: ShiftingClock

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def enqueue(self, pipeline: str = "etl", **fields: Any) -> Run:
        new = NewRun(
            **{"id": new_id(), "project": "demo", "pipeline": pipeline, "execution_date": NOW, **fields}
        )
        return self.runtime.database.write(Commit.ENQUEUE, lambda tx: runs.enqueue(tx, new))[0]

    def record(self, key: str, *, outcome: Outcome = Outcome.RAN, **fields: Any) -> Recorded:
        """Record an event of the trigger `hook` of `etl`, with a run where the outcome is `ran`."""
        event_id = new_id()
        run = NewRun(new_id(), "demo", "etl", NOW, trigger="hook", event_id=event_id)
        wanted = run if outcome is Outcome.RAN else None
        values: dict[str, Any] = {
            "id": event_id,
            "project": "demo",
            "source": "webhook:etl/hook",
            "key": key,
            "type": "webhook.received",
            "time": NOW,
            "received_at": NOW,
            "outcome": outcome,
            "road": "webhook:etl/hook",
            "matches": (NewMatch("etl", "hook", outcome, fields.pop("match_reason", None), wanted),),
        }
        new = NewEvent(**{**values, **fields})
        answer = self.runtime.database.write(Commit.ACCEPT, lambda tx: events.record(tx, [new]))[0]
        assert isinstance(answer, Recorded)
        return answer

    def claim(self, blocks: Iterable[str]) -> Run:
        """Play an engine: claim the oldest queued run, which has these blocks."""
        pin = Pin("-".join(blocks), {}, tuple((name, "custom") for name in blocks))
        (claimed,) = self.runtime.database.write(
            Commit.CLAIM,
            lambda tx: runs.claim(
                tx, engine_id="e", slots=1, lease_seconds=15, projects=["demo"], pin=lambda _run: pin
            ),
        )
        return claimed.run

    def finish(self, states: Mapping[str, BlockState], *, error: str | None = None) -> Run:
        """Claim the oldest queued run, let its blocks reach these states, and end it."""
        run = self.claim(states)
        reports: list[Report] = []
        for name, state in states.items():
            reports.append(BlockStarted(run.id, run.claim, name, 1, NOW))
            reports.append(BlockEnded(run.id, run.claim, name, state, 1, NOW, rows=3, error=error))
        final = RunState.FAILED if error else RunState.SUCCEEDED
        reports.append(RunEnded(run.id, run.claim, final, NOW, error=error))
        self.runtime.database.write(Commit.REPORT, lambda tx: runs.apply(tx, reports))
        return run

    def beat(self, engine_id: str) -> None:
        """Let an engine show itself, by the database's clock."""
        self.runtime.database.write(Commit.ENGINE, lambda tx: engines.beat(tx, engine_id))

    def later(self, passed: timedelta) -> None:
        """Let time pass."""
        self.clock.shift += passed


@contextmanager
def site(project: Path, *further: Path, **settings: Any) -> Iterator[Site]:
    """Build the app over the projects. No thread is started."""
    clock = ShiftingClock()
    chosen = load_settings(project=(project, *further), home=project / ".millrace", **settings)
    lay_store(chosen.home)
    runtime = build_runtime(chosen, clock=clock)
    try:
        yield Site(create_app(WebParts(runtime, build_dispatcher(runtime))), runtime, clock)
    finally:
        runtime.close()

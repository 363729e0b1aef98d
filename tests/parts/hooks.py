"""The doors for webhooks over a real store, with their writers and listeners running."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.app import create_app
from service.dispatcher import Dispatcher
from service.runtime import Runtime, build_dispatcher, build_runtime
from service.settings import load_settings
from service.store import events, refused, runs, triggers
from service.store.refused import NewRefusal
from service.store.session import Commit
from service.store.values import ClaimedRun, Pin, Run, RunEnded, RunState, StoredEvent
from service.web.parts import WebParts
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.stores import lay_store
from tests.parts.waiting import wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
START = datetime(2024, 3, 1, 12, tzinfo=UTC)

BLOCK = BlockFile("only", "@custom\ndef only(**kwargs):\n    return 1\n")


class SetClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@dataclass(frozen=True)
class Hooks:
    """A web process without its server. Its pipeline is `etl` of the project `demo`."""

    app: Flask
    runtime: Runtime
    dispatcher: Dispatcher
    clock: SetClock
    root: Path

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def post(
        self, body: Any = b"", path: str = "/webhooks/etl/hook", headers: Mapping[str, str] | None = None
    ) -> TestResponse:
        """Post bytes as they are, and anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(
            path, data=data, headers={"Content-Type": "application/json", **(headers or {})}
        )

    def post_signed(self, body: Any, message_id: str, *, at: datetime | None = None) -> TestResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.post(data, headers=signed_headers(data, message_id, at or self.clock.now))

    def accept(self, body: Any = b"", **others: Any) -> Mapping[str, Any]:
        """Post, and return the answer of an accepted delivery."""
        answer = self.post(body, **others)
        assert answer.status_code == 202, answer.text
        return dict(answer.get_json())

    def event(self, event_id: str) -> StoredEvent:
        with self.runtime.database.read() as connection:
            found = events.get(connection, event_id)
        assert found is not None
        return found

    def raw(self, event_id: str) -> bytes | None:
        with self.runtime.database.read() as connection:
            return events.raw_of(connection, event_id)

    def run(self, run_id: str) -> Run:
        with self.runtime.database.read() as connection:
            found = runs.get(connection, run_id)
        assert found is not None
        return found

    def all_runs(self) -> list[Run]:
        """Return the runs, oldest first."""
        with self.runtime.database.read() as connection:
            return sorted(runs.listing(connection, limit=10_000), key=lambda run: run.id)

    def refusals(self, count: int) -> list[NewRefusal]:
        """Return the recorded refusals, newest first, once there are `count`."""

        def found() -> list[NewRefusal]:
            with self.runtime.database.read() as connection:
                return [refusal for _, refusal in refused.listing(connection)]

        wait_until(lambda: len(found()) >= count, what="the refusals are recorded")
        return found()

    def token(self, name: str = "hook") -> str:
        return self.runtime.database.write(
            Commit.TRIGGER, lambda tx: triggers.token_of(tx, "demo", "etl", name)
        )

    def pause(self, name: str = "hook") -> None:
        self.runtime.database.write(Commit.TRIGGER, lambda tx: triggers.pause(tx, "demo", "etl", name))

    def claim_one(self) -> ClaimedRun:
        """Play an engine: claim the oldest queued run."""
        pin = Pin("p", {}, (("only", "custom"),))
        (claimed,) = self.runtime.database.write(
            Commit.CLAIM,
            lambda tx: runs.claim(
                tx, engine_id="e", slots=1, lease_seconds=15, projects=["demo"], pin=lambda _run: pin
            ),
        )
        return claimed

    def finish_one(self) -> Run:
        """Play an engine: claim the oldest queued run and end it well."""
        claimed = self.claim_one()
        ended = RunEnded(claimed.run.id, claimed.run.claim, RunState.SUCCEEDED, START)
        self.runtime.database.write(Commit.REPORT, lambda tx: runs.apply(tx, [ended]))
        return claimed.run

    def rewrite(self, hooks: Sequence[Mapping[str, Any]]) -> None:
        """Change the triggers on disk and have the service notice."""
        write_pipeline(self.root, "etl", [BLOCK], triggers=hooks)
        self.runtime.projects.refresh()


def signed_headers(body: bytes, message_id: str, at: datetime) -> dict[str, str]:
    """Sign as Standard Webhooks says."""
    stamp = str(int(at.timestamp()))
    content = f"{message_id}.{stamp}.".encode() + body
    signature = base64.b64encode(hmac.new(_KEY, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}


@contextmanager
def running_hooks(
    root: Path,
    hooks: Sequence[Mapping[str, Any]],
    *,
    database_url: str | None = None,
    environ: Mapping[str, str] | None = None,
    pipeline: Mapping[str, Any] | None = None,
    settings_of_project: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Hooks]:
    """Serve a project `demo` with these triggers on its pipeline `etl`."""
    write_project(root, **(settings_of_project or {}))
    write_pipeline(root, "etl", [BLOCK], triggers=hooks, **(pipeline or {}))
    clock = SetClock()
    chosen = load_settings(project=(root,), home=root / ".millrace", database_url=database_url, **settings)
    lay_store(chosen.home)
    runtime = build_runtime(chosen, clock=clock)
    dispatcher = build_dispatcher(runtime)
    runtime.wakeups.start()
    dispatcher.start()
    try:
        yield Hooks(create_app(WebParts(runtime, dispatcher)), runtime, dispatcher, clock, root)
    finally:
        dispatcher.stop()
        runtime.close()

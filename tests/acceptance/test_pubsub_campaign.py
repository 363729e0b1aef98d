"""Pub/Sub messages, one in ten published twice, an engine killed ten times: each is one finished run."""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from service.errors import StoreUnavailable
from service.store import sensors
from service.store.database import Database
from tests.acceptance.conftest import QUICK
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.pubsub import PROJECT, PubSubEmulator
from tests.parts.service import MILLRACE, clean_environment
from tests.parts.waiting import wait_until

pytestmark = pytest.mark.acceptance

CHAOS = os.environ.get("CHAOS_MESSAGES")  # set by `make chaos`
MESSAGES = int(CHAOS or 1000)
KILLS = 10
ACK_SECONDS = 10  # the least that Pub/Sub allows: for so long what a killed engine held comes to nobody
SECONDS = 90 + MESSAGES / 20

BLOCK = BlockFile("note", "@custom\ndef note(**kwargs):\n    return kwargs['number']\n")


@pytest.fixture(params=["sqlite", "postgres"] if CHAOS else ["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'campaign' / '.millrace' / 'millrace.db'}"


def test_messages_through_kills_are_each_one_finished_run(
    tmp_path: Path, database_url: str, pubsub: PubSubEmulator
) -> None:
    topic = pubsub.make_topic()
    subscription = pubsub.make_subscription(topic, ack_deadline_seconds=ACK_SECONDS)
    project = _project(tmp_path / "campaign", subscription)
    environ = {"MILLRACE_DATABASE_URL": database_url, "MILLRACE_SLOTS": "2", **pubsub.environ}
    dice = random.Random(7)
    numbers = [*range(MESSAGES), *dice.sample(range(MESSAGES), MESSAGES // 10)]
    dice.shuffle(numbers)

    with running_engine(project, environ) as engine, reading(project, database_url) as book:
        for part in range(KILLS):
            pubsub.publish(topic, [_message(number) for number in numbers[part::KILLS]])
            if part == 0:
                assert pubsub.pull(subscription)  # leased by somebody who never comes back
            before = book.events()
            wait_until(lambda known=before: book.events() > known, seconds=SECONDS, what="news")
            engine.kill()
            engine.start()
        last_death = datetime.now(UTC)
        states = wait_until(lambda: book.final_states(), seconds=SECONDS, what="the end of all runs")
        # Whatever a dead engine did not give back comes again by then, is known, and is acked.
        since = last_death + timedelta(seconds=ACK_SECONDS + 1)
        wait_until(lambda: book.was_quiet_after(since), seconds=SECONDS, what="a tick without news")
        runs = book.runs_by_number()

    assert states == {"succeeded": MESSAGES}
    assert runs == dict.fromkeys(range(MESSAGES), 1)
    assert pubsub.unacked(subscription) == []


def _project(root: Path, subscription: str) -> Path:
    write_project(root)
    trigger = {
        "name": "orders",
        "type": "sensor",
        "sensor": "pubsub_message",
        "options": {
            "project": PROJECT,
            "subscription": subscription,
            "key": "number",
            "ack_deadline": ACK_SECONDS,
        },
        "every": "2s",
        "variables": {"number": "{{ event.data.number }}"},
    }
    write_pipeline(root, "campaign", [BLOCK], triggers=[trigger])
    return root


def _message(number: int) -> dict[str, Any]:
    return {"data": b'{"number": %d}' % number, "attributes": {"number": str(number)}}


class Engine:
    """`millrace engine`, and what a power cut does to it."""

    def __init__(self, project: Path, environ: dict[str, str]) -> None:
        self._project = project
        self._environ = clean_environment({**QUICK, **environ})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*MILLRACE, "engine", "--project", str(self._project)]
        with (self._project / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self._environ, cwd=self._project
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(30) == 0, (self._project / "engine.log").read_text()


@contextmanager
def running_engine(project: Path, environ: dict[str, str]) -> Iterator[Engine]:
    """Start an engine; end it in order when all went well, and anyhow."""
    engine = Engine(project, environ)
    engine.start()
    try:
        yield engine
        engine.stop()
    finally:
        engine.kill()


class Book:
    """What the store says."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self) -> int:
        return int(self._select("SELECT count(*) FROM events WHERE type = 'pubsub.message'")[0][0])

    def final_states(self) -> Counter[str] | None:
        states: Counter[str] = Counter()
        for state, count in self._select("SELECT state, count(*) FROM runs GROUP BY state"):
            states[state] += count
        is_final = states.keys() <= {"succeeded", "failed", "cancelled"}
        return states if is_final and states.total() >= MESSAGES else None

    def runs_by_number(self) -> Counter[int]:
        """Count the runs of each message."""
        keys = self._select("SELECT events.key FROM runs JOIN events ON events.id = runs.event_id")
        return Counter(int(key.removeprefix("number=")) for (key,) in keys)

    def was_quiet_after(self, moment: datetime) -> bool:
        with self._database.read() as connection:
            ticks = sensors.listing(connection, "demo", "campaign", "orders")
        return any(tick.started_at > moment and tick.result.seen == 0 for tick in ticks)

    def _select(self, statement: str) -> Sequence[Any]:
        with self._database.read() as connection:
            return connection.exec_driver_sql(statement).all()


@contextmanager
def reading(project: Path, url: str) -> Iterator[Book]:
    """Read the store once the engine has made it."""
    home = project / ".millrace"
    home.mkdir(exist_ok=True)
    database = Database(url, home=home)
    wait_until(lambda: _is_made(Book(database)), seconds=30, what="the store")
    try:
        yield Book(database)
    finally:
        database.close()


def _is_made(book: Book) -> bool:
    with suppress(SQLAlchemyError, StoreUnavailable):
        return book.events() >= 0
    return False

"""Messages from the emulator to runs: acked when they are stored, given back when they are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.clock import utc_now
from service.errors import StoreUnavailable
from service.store import runs
from service.store.session import Commit
from service.watching.watcher import SensorTickError, Watcher
from tests.parts.clockwork import Clockwork, Now, build_clockwork
from tests.parts.pubsub import PROJECT, PubSubEmulator
from tests.parts.waiting import wait_until

ORDERS = """
triggers:
- name: orders
  type: sensor
  sensor: pubsub_message
  options: {{project: {project}, subscription: {subscription}, endpoint: "http://{host}"}}
  every: 1s
  variables: {{order: "{{{{ event.data.id }}}}"}}
"""


class Orders:
    """A subscription, and an engine that pulls it."""

    def __init__(self, emulator: PubSubEmulator, folder: Path) -> None:
        self.emulator = emulator
        self._topic = emulator.make_topic()
        self._subscription = emulator.make_subscription(self._topic)
        text = ORDERS.format(project=PROJECT, subscription=self._subscription, host=emulator.host)
        self.engine: Clockwork = build_clockwork(folder / "city", folder / "home", None, text, Now(utc_now()))
        self.watcher = Watcher(self.engine.runtime, self.engine.dispatcher)

    def publish(self, *bodies: bytes) -> list[str]:
        return self.emulator.publish(self._topic, bodies)

    def tick(self) -> Any:
        self.engine.now.advance(seconds=1)
        return self.watcher.tick(self.engine.trigger("orders"), self.engine.now.moment)

    def tick_until(self, count: int) -> None:
        """Tick until there are as many runs."""
        wait_until(lambda: self.tick() and len(self.orders()) >= count, what="the runs")

    def orders(self) -> list[Any]:
        with self.engine.runtime.database.read() as connection:
            return [run.variables["order"] for run in runs.listing(connection)]

    def available(self) -> set[str]:
        """Return the ids of the messages that nobody holds."""
        return {item.message.message_id for item in self.emulator.pull(self._subscription)}

    def unacked(self) -> list[str]:
        return self.emulator.unacked(self._subscription)


@pytest.fixture
def orders(pubsub: PubSubEmulator, tmp_path: Path) -> Iterator[Orders]:
    made = Orders(pubsub, tmp_path)
    made.watcher.start()
    yield made
    made.watcher.close()
    made.engine.runtime.close()


def test_each_message_starts_a_run_and_is_acked(orders: Orders) -> None:
    orders.publish(b'{"id": 1}', b'{"id": 2}')

    orders.tick_until(2)

    assert sorted(orders.orders()) == [1, 2]
    assert orders.unacked() == []


def test_store_that_goes_away_has_the_messages_given_back_at_once(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = orders.publish(b'{"id": 1}')
    write = orders.engine.runtime.database.write
    commits: list[Commit] = []

    def failing(commit: Commit, *arguments: Any) -> Any:
        commits.append(commit)
        if len(commits) > 1:  # the first one is that of the claim
            raise StoreUnavailable("sqlite", "it is away")
        return write(commit, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(orders.engine.runtime.database, "write", failing)
        with pytest.raises(StoreUnavailable):
            orders.tick()

    assert orders.available() == set(ids)  # without waiting for a deadline


def test_message_that_could_not_be_stored_is_not_acked(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = orders.publish(b'{"id": 1}')

    def none_stored(tx: object, planned: Sequence[object]) -> list[Exception]:
        return [ValueError("no room") for _ in planned]

    with monkeypatch.context() as patched:
        patched.setattr(orders.engine.dispatcher, "record_page", none_stored)
        with pytest.raises(SensorTickError, match="could not be stored"):
            orders.tick()

    assert orders.available() == set(ids)


def test_missing_subscription_is_the_error_of_the_tick(orders: Orders) -> None:
    compiled = orders.engine.trigger("orders")
    elsewhere = replace(compiled, options={**compiled.options, "subscription": "not-there"})

    with pytest.raises(SensorTickError, match="not-there is not there"):
        orders.watcher.tick(elsewhere, orders.engine.now.moment)

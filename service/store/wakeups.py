"""Tells processes at once what they would else find by polling. A wake-up may get lost, or come for nothing.

Topics: "queued" (a run can be claimed), "run:<id>" (it became final or waits), "cancel:<id>", "triggers",
"outgoing" (events are to be sent), "backfills" (one was submitted or changed).
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import psycopg2
import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.store.database import NOTIFY_CHANNEL, Database
from service.store.faults import one_line
from service.store.signals import Mailbox

logger = structlog.get_logger(__name__)
Callback = Callable[[str], None]

RECONNECT_SECONDS = 1.0
# What a listener may have missed while it was cut off.
AFTER_RECONNECT = ("queued", "triggers")


class WakeUps:
    """Hands every topic of every process to the subscribers of this one, on a thread of its own."""

    def __init__(self, database: Database) -> None:
        self._listener: _PostgresListener | _MailboxListener = (
            _PostgresListener(database, self._spread)
            if database.is_postgres
            else _MailboxListener(database, self._spread)
        )
        self._subscriptions: list[Subscription] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to listen; topics committed after the return are heard."""
        self._listener.start()

    def subscribe(self, callback: Callback) -> Subscription:
        """Call `callback` with each topic from now on, until the subscription is closed; it must be fast."""
        subscription = Subscription(self, callback)
        with self._lock:
            self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """Stop listening. Idempotent, also when never started."""
        self._listener.close()

    def forget(self, subscription: Subscription) -> None:
        with self._lock, suppress(ValueError):
            self._subscriptions.remove(subscription)

    def _spread(self, topic: str) -> None:
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            try:
                subscription.callback(topic)
            except Exception:
                logger.exception("a subscriber failed", topic=topic)


class Subscription(AbstractContextManager["Subscription"]):
    """Ends with `close`, or with its `with` block."""

    def __init__(self, wakeups: WakeUps, callback: Callback) -> None:
        self.callback = callback
        self._wakeups = wakeups

    def close(self) -> None:
        self._wakeups.forget(self)

    def __exit__(self, *_: object) -> None:
        self.close()


class _MailboxListener:
    """Receives the signals of the other processes on this machine."""

    def __init__(self, database: Database, spread: Callback) -> None:
        self._folder = database.home / "wake"
        self._spread = spread
        self._mailbox: Mailbox | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._mailbox = Mailbox(self._folder)
        self._thread = threading.Thread(
            target=self._listen, args=(self._mailbox,), name="wakeups", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self._mailbox is not None and self._thread is not None:
            self._mailbox.close()
            self._thread.join()
            self._mailbox.release()
            self._mailbox = None

    def _listen(self, mailbox: Mailbox) -> None:
        while topic := mailbox.receive():
            self._spread(topic)


class _PostgresListener:
    """Holds one connection in LISTEN, and takes a new one when it breaks."""

    def __init__(self, database: Database, spread: Callback) -> None:
        self._database = database
        self._spread = spread
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="wakeups", daemon=True)
        self._thread.start()
        self._ready.wait(RECONNECT_SECONDS)

    def close(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._writer.send(b"x")
            if self._thread is not None:
                self._thread.join()
            self._reader.close()
            self._writer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except (SQLAlchemyError, psycopg2.Error, OSError) as error:
                logger.warning("wake-ups are interrupted", store=self._database.name, reason=one_line(error))
                self._stopping.wait(RECONNECT_SECONDS)

    def _listen(self) -> None:
        connection = self._database.raw_connection()
        try:
            driver = connection.dbapi_connection
            driver.autocommit = True
            with driver.cursor() as cursor:
                cursor.execute(f"LISTEN {NOTIFY_CHANNEL}")
            if self._ready.is_set():
                for topic in AFTER_RECONNECT:
                    self._spread(topic)
            self._ready.set()
            while not self._stopping.is_set():
                select.select([driver, self._reader], [], [])
                driver.poll()
                self._spread_all(driver.notifies)
        finally:
            connection.close()

    def _spread_all(self, notifies: list[Any]) -> None:
        while notifies:
            self._spread(notifies.pop(0).payload)

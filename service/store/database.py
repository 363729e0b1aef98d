"""The one door to the database: reads, and named write transactions."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from service.errors import CommitUnknown, StoreUnavailable, UnsupportedStore
from service.store.borrowing import REST_SECONDS, WriteConnections
from service.store.columns import from_micros
from service.store.commits import ALL_CRASH_POINTS, Commit
from service.store.faults import Fault, fault_of, one_line
from service.store.signals import Signals
from service.store.writelock import WriteLock

__all__ = ["ALL_CRASH_POINTS", "Commit", "Database", "Transaction"]

Result = TypeVar("Result")
CrashPoint = Callable[[str], None]

MAX_RACES = 8  # how often a transaction that lost a race is begun again
NOTIFY_CHANNEL = "millrace"
_NOTIFY = "SELECT pg_notify(%s, topic) FROM unnest(CAST(%s AS text[])) AS topic"
_POSTGRES_NOW = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")


def _no_crash(point: str) -> None:
    """Stand in for `pipelines.crash.CrashPoints` where nothing is to crash."""


class Transaction:
    """A write transaction under way. It ends with the function it was handed to."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self.connection = connection
        self.database = database
        self.topics: dict[str, None] = {}

    @cached_property
    def now(self) -> datetime:
        """The database's clock, asked once per transaction: engines on several machines must agree."""
        if self.database.is_postgres:
            return from_micros(self.connection.execute(_POSTGRES_NOW).scalar_one())
        return datetime.now(UTC)  # the file and all its users are on this machine

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the body wrote when it fails; a fifth of the cost of SQLAlchemy's own, which is felt."""
        self.connection.exec_driver_sql("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            if not self.connection.invalidated:
                self.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT attempt")
            raise
        # Not released, which would be one more round trip: the commit does it.

    def notify(self, topic: str) -> None:
        """Wake whoever waits for `topic`, once the transaction is committed."""
        self.topics[topic] = None


class Database:
    """SQLite or Postgres behind one face. Connects at its first use; not for use over a fork."""

    def __init__(self, url: str, *, home: Path, crash: CrashPoint = _no_crash) -> None:
        self.url = _normalised(url)
        self.home = home
        self.name = self.url.render_as_string(hide_password=True)
        self.is_postgres = self.url.get_backend_name() == "postgresql"
        self.facts: dict[str, str] = {}  # what never changes once it is in the store: see `keys`
        self._crash = crash
        self._engine = _postgres_engine(self.url) if self.is_postgres else _sqlite_engine(self.url)
        self._reads = self._engine.execution_options(
            **({"isolation_level": "AUTOCOMMIT"} if self.is_postgres else {})
        )
        self._writers = WriteConnections(self._engine.execution_options(begin="BEGIN IMMEDIATE"))
        self._lock = None if self.is_postgres else WriteLock(Path(f"{self.url.database}.lock"))
        self._signals = None if self.is_postgres else Signals(home / "wake")

    @property
    def dialect(self) -> str:
        return "postgresql" if self.is_postgres else "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection for reading. On SQLite all statements inside see one moment."""
        try:
            with self._reads.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._translated(error) from error

    def write(self, commit: Commit, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` in a transaction and commit it. After a lost race it is begun anew: it may run twice.

        Raises StoreUnavailable when nothing was written, CommitUnknown when nobody can tell.
        """
        for attempt in itertools.count(1):
            try:
                return self._write_once(commit, work)
            except SQLAlchemyError as error:
                fault = fault_of(error)
                if fault is Fault.RACE and attempt < MAX_RACES:
                    continue
                if fault is Fault.GONE and attempt == 1 and self.is_postgres:
                    continue  # a pooled connection from before a restart; nothing was committed
                raise self._translated(error) from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        self._writers.close()
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()
        if self._signals is not None:
            self._signals.close()

    def raw_connection(self) -> Any:
        """Return a driver connection of the caller's own, which the pool does not take back."""
        connection = self._engine.raw_connection()
        connection.detach()
        return connection

    def _write_once(self, commit: Commit, work: Callable[[Transaction], Result]) -> Result:
        with self._turn(), self._writers.borrowed() as connection:
            transaction = Transaction(connection, self)
            connection.begin()
            result = work(transaction)
            self._announce_inside(transaction)
            self._crash(f"{commit}.before_commit")
            self._commit(connection, commit)
            self._crash(f"{commit}.after_commit")
        if self._signals is not None:
            self._signals.send(transaction.topics)
        return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        try:
            self._lock.acquire()
        except OSError as error:
            raise StoreUnavailable(self.name, one_line(error)) from error
        try:
            yield
        finally:
            self._lock.release()

    def _announce_inside(self, transaction: Transaction) -> None:
        if self.is_postgres and transaction.topics:
            transaction.connection.exec_driver_sql(_NOTIFY, (NOTIFY_CHANNEL, list(transaction.topics)))

    def _commit(self, connection: Connection, commit: Commit) -> None:
        try:
            connection.commit()
        except SQLAlchemyError as error:
            if fault_of(error) is Fault.GONE:
                raise CommitUnknown(self.name, commit) from error
            raise

    def _translated(self, error: SQLAlchemyError) -> Exception:
        return error if fault_of(error) is Fault.OTHER else StoreUnavailable(self.name, one_line(error))


def _normalised(url: str) -> URL:
    try:
        parsed = make_url(
            url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url
        )
    except (SQLAlchemyError, ValueError):
        raise UnsupportedStore("a text that is no URL") from None  # it may hold a password
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg2")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed.set(drivername="sqlite", database=os.path.abspath(parsed.database))
    raise UnsupportedStore(parsed.render_as_string(hide_password=True))


def _postgres_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,  # payloads and tokens do not belong into messages
        pool_size=5,
        max_overflow=30,
        pool_timeout=10,
        executemany_mode="values_plus_batch",  # one round trip for a hundred UPDATEs, not a hundred
        connect_args={"connect_timeout": 5, "application_name": "millrace", "keepalives_idle": 30},
    )
    _ping_after_rest(engine)
    return engine


def _ping_after_rest(engine: Engine) -> None:
    """Ask a connection that rested whether it still lives. Asking at every use would cost a round trip."""

    def rest(_driver: Any, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    def wake(driver: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < REST_SECONDS:
            return
        try:
            engine.dialect.do_ping(driver)
        except Exception as error:
            raise DisconnectionError("the connection did not outlive its rest") from error

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", wake)


def _sqlite_engine(url: URL) -> Engine:
    file = Path(str(url.database))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Tokens of triggers lie in this file: for its owner only, from the first moment.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnavailable(url.render_as_string(), f"{error.filename}: {error.strerror}") from error
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=5,
        max_overflow=30,
        # The driver must not begin transactions by itself; `begin` below does it at the right moment.
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 10},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-8000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

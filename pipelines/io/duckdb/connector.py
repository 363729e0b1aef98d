"""The DuckDB connector."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import duckdb
import pyarrow as pa

from pipelines.io.base import Policy, refuse_unknown
from pipelines.io.duckdb.faults import with_place
from pipelines.io.duckdb.frames import scannable
from pipelines.io.duckdb.reading import read_query, stream_query
from pipelines.io.duckdb.streaming import Rereadable, reader_for_each_try, stage_once, write_stream
from pipelines.io.duckdb.tables import (
    Order,
    forget_frame,
    run,
    touch,
    write_frame,
    write_query,
)
from pipelines.io.effects import EFFECTS_COLUMNS, EFFECTS_TABLE, Effect, transaction, write_once
from pipelines.io.errors import ConnectionFailed, ExportRefused, QueryFailed
from pipelines.io.frames import FrameKind, is_streamed, to_arrow, to_reader
from pipelines.io.sqlconnector import SqlConnector, bound_values
from pipelines.io.sqltext import Relation, bind, bound_in, first_word, quoted, statements
from pipelines.streams import Stream

if TYPE_CHECKING:
    from pipelines.io.config import Profile

_MEMORY = ":memory:"
# The connections of a process to one file share what DuckDB has open. Who comes while another one opens it
# finds a database that does not know frames yet, all through its first transaction.
_CONNECTING = threading.Lock()
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.5  # seconds between two looks at a file that another process holds


@dataclass(frozen=True)
class DuckDBSettings:
    """The keys of a profile that concern DuckDB."""

    profile: str
    database: str  # an absolute path, or ":memory:"
    schema: str
    lock_timeout: float  # seconds

    @classmethod
    def of(cls, profile: Profile) -> DuckDBSettings:
        database = str(profile.require("DUCKDB_DATABASE"))
        return cls(
            profile=profile.name,
            database=database if database == _MEMORY else str(profile.root / Path(database).expanduser()),
            schema=str(profile.get("DUCKDB_SCHEMA") or "main"),
            lock_timeout=profile.number("DUCKDB_LOCK_TIMEOUT", 60),
        )


class DuckDB(SqlConnector):
    """Loads from and exports to one DuckDB file.

    A process that has the file open keeps all others out, so it is held for one call only, or for as
    long as a `with` lasts; who comes second waits. Profile: DUCKDB_DATABASE (a path, from the project's
    folder); and, with defaults, DUCKDB_SCHEMA (main), DUCKDB_LOCK_TIMEOUT (60 seconds).
    """

    name: ClassVar[str] = "duckdb"

    def __init__(self, settings: DuckDBSettings) -> None:
        self._settings = settings
        self._connection: duckdb.DuckDBPyConnection | None = None
        # A database in memory is gone when it is closed.
        self._keeps = settings.database == _MEMORY

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(DuckDBSettings.of(profile))

    @property
    def schema(self) -> str:
        return self._settings.schema

    def read(
        self,
        session: duckdb.DuckDBPyConnection,
        query: str,
        *,
        limit: int | None = None,
        frame: FrameKind = "pandas",
        **binds: Any,
    ) -> Any:
        return read_query(session, self._asked(session, query, limit, binds), binds, frame)

    def load(self, query: str, limit: int | None = None, frame: FrameKind = "pandas", **binds: Any) -> Any:
        """Return the rows of a query; `:name` in it takes the value of that keyword. See SqlConnector."""
        with self.transaction() as session:
            return self.read(session, query, limit=limit, frame=frame, **bound_values(binds))

    def stream(self, query: str, limit: int | None = None, **binds: Any) -> pa.RecordBatchReader:
        """Return the rows of a query as Arrow batches, in bounded memory, for one pass.

        The file stays open until the last batch is read. Sums of whole numbers are decimals.
        """
        batches = self._batches(query, limit, bound_values(binds))
        return pa.RecordBatchReader.from_batches(next(batches).schema, batches)

    def _batches(self, query: str, limit: int | None, binds: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        with self.transaction() as session:
            yield from stream_query(session, self._asked(session, query, limit, binds), binds)

    @staticmethod
    def _asked(
        session: duckdb.DuckDBPyConnection, query: str, limit: int | None, binds: dict[str, Any]
    ) -> str:
        """Run all statements but the last, and return that one."""
        *before, last = statements(bind(query, binds, "${}")) or [""]
        if not last:
            raise QueryFailed("the query is empty")
        for statement in before:
            run(session, statement)
        if limit is not None and first_word(last) in ("SELECT", "WITH", "FROM", "VALUES"):
            last = f"SELECT * FROM ({last}\n) AS limited LIMIT {int(limit)}"
        return last

    def export(
        self,
        df: Any,
        schema_name: str | None = None,
        table_name: str | None = None,
        if_exists: str = "replace",
        keys: str | list[str] | tuple[str, ...] | None = None,
        index: bool = False,
        unique_constraints: str | list[str] | tuple[str, ...] | None = None,
        unique_conflict_method: str | None = None,
        **mage: Any,
    ) -> int:
        """Write a frame into a table, all or nothing, and return its rows.

        DuckDB reads a frame where it lies in memory, and pulls batches of what is streamed. `append` wants
        the table's columns, `merge` updates by `keys`. Schema and table are made when they are absent. Names
        are taken as they are.
        """
        refuse_unknown("DuckDB.export", mage)
        policy = Policy.of(
            if_exists,
            keys=keys,
            unique_constraints=unique_constraints,
            unique_conflict_method=unique_conflict_method,
        )
        target = self.relation(schema_name, table_name)
        order = Order(target, policy.of_next_write(f"duckdb:{target}"))
        if is_streamed(df):
            reader = reader_for_each_try(df, index)
            return self.write_once(str(target), lambda connection: write_stream(connection, reader(), order))
        table = to_arrow(df, index=index)
        return self.write_once(str(target), lambda connection: write_frame(connection, table, order))

    def execute(self, query: str, **binds: Any) -> int:
        """Run one or more statements in one transaction and return how many rows the last one touched."""
        touched = 0
        with self.transaction() as connection:
            for statement in statements(query):
                here = bound_in(statement, binds)
                touched = touch(connection, bind(statement, here, "${}"), here)
        return touched

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._keeps = self._settings.database == _MEMORY
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def write_once(self, target: str, write: Callable[[duckdb.DuckDBPyConnection], int]) -> int:
        """Run `write` once; see SqlConnector.

        Two threads that write to the same tables at once make DuckDB refuse one of them: it tries again.
        """
        effect = Effect.next(f"duckdb:{target}")
        for wait in _waits(self._settings.lock_timeout):
            with suppress(duckdb.TransactionException):
                return self._write_once(target, effect, write)
            time.sleep(wait)
        return self._write_once(target, effect, write)

    def _write_once(
        self, target: str, effect: Effect | None, write: Callable[[duckdb.DuckDBPyConnection], int]
    ) -> int:
        with self._open() as connection, _told(f"cannot write to {target}: ", ExportRefused):
            ledger = _Ledger(connection, Relation(self._settings.schema, EFFECTS_TABLE))
            if effect is not None:
                ledger.create()
            try:
                return write_once(ledger, effect, lambda: write(connection))
            finally:
                forget_frame(connection)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            self._open() as connection,
            _told("", QueryFailed),
            transaction(_Ledger(connection, Relation(self._settings.schema, EFFECTS_TABLE))),
        ):
            yield connection

    def run(self, session: duckdb.DuckDBPyConnection, statement: str) -> int:
        return touch(session, statement, {})

    def stage(self, session: duckdb.DuckDBPyConnection, name: str, data: Any) -> None:
        # A stream is read anew by each scan; what can be read only once is put into a table by the first.
        if isinstance(data, Stream):
            to_reader(data).close()  # says what is wrong with its columns
            session.register(name, Rereadable(data))
        elif is_streamed(data):
            stage_once(session, name, to_reader(data))
        else:
            session.register(name, scannable(data))

    def write_query(
        self, session: duckdb.DuckDBPyConnection, query: str, target: Relation, policy: Policy
    ) -> int:
        return write_query(session, query, Order(target, policy))

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._only_work():
            if self._connection is None:
                self._connection = _connect(self._settings)
            try:
                yield self._connection
            finally:
                if not self._keeps:
                    self.close()


def _connect(settings: DuckDBSettings) -> duckdb.DuckDBPyConnection:
    if settings.database != _MEMORY:
        Path(settings.database).parent.mkdir(parents=True, exist_ok=True)
    for wait in _waits(settings.lock_timeout):
        try:
            return _connected(settings)
        except duckdb.OperationalError as error:
            if not _is_taken(error):
                raise _unreadable(settings, error) from error
        time.sleep(wait)
    try:
        return _connected(settings)
    except duckdb.OperationalError as error:
        raise ConnectionFailed(
            f"another process holds {settings.database} (profile {settings.profile!r}), and did not let go "
            f"in {settings.lock_timeout:g} s: {error}. Close it there, or raise DUCKDB_LOCK_TIMEOUT"
        ) from error


def _is_taken(error: duckdb.Error) -> bool:
    """Say whether waiting may help: another process holds the file, or a branch of ours just closes it."""
    return "lock" in str(error).lower() or "already attached" in str(error)


def _connected(settings: DuckDBSettings) -> duckdb.DuckDBPyConnection:
    with _CONNECTING:
        connection = duckdb.connect(settings.database)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _unreadable(settings: DuckDBSettings, error: Exception) -> ConnectionFailed:
    return ConnectionFailed(f"cannot open {settings.database} (profile {settings.profile!r}): {error}")


def _waits(timeout: float) -> Iterator[float]:
    """Yield growing waits, as long as the time lasts."""
    deadline = time.monotonic() + timeout
    wait = _FIRST_WAIT
    while time.monotonic() + wait < deadline:
        yield wait
        wait = min(wait * 1.5, _LONGEST_WAIT)


class _Ledger:
    """Effect ids in a table of the same file; see `pipelines.io.effects`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, table: Relation) -> None:
        self._connection = connection
        self._table = table

    def create(self) -> None:
        """Make the table. Nobody who comes first then has to wait for the whole export that made it."""
        with transaction(self):
            run(self._connection, f"CREATE SCHEMA IF NOT EXISTS {quoted(self._table.schema)}")
            run(self._connection, f"CREATE TABLE IF NOT EXISTS {self._table.sql} ({EFFECTS_COLUMNS})")

    def begin(self) -> None:
        self._connection.begin()

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        # A commit that failed has ended the transaction already.
        with suppress(duckdb.TransactionException):
            self._connection.rollback()

    def claim(self, effect: Effect) -> int | None:
        found = run(self._connection, f"SELECT rows FROM {self._table.sql} WHERE effect_id = ?", [effect.id])
        return int(str(found[0][0])) if found else None

    def record(self, effect: Effect, rows: int) -> None:
        run(
            self._connection,
            f"INSERT INTO {self._table.sql} VALUES (?, ?, ?, now())",
            [effect.id, effect.target, rows],
        )


@contextmanager
def _told(prefix: str, kind: type[QueryFailed] | type[ExportRefused]) -> Iterator[None]:
    """Raise DuckDB's errors as our own; conflicts between threads pass, for who tries again."""
    try:
        yield
    except duckdb.TransactionException:
        raise
    except duckdb.Error as error:
        sentence = str(error).split("\n\nLINE", maxsplit=1)[0]
        raise with_place(kind(f"{prefix}{' '.join(sentence.split())}"), error) from error

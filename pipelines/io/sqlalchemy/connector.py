"""The connector to databases that SQLAlchemy reaches."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
import sqlalchemy as sa

from pipelines.io.base import Policy, refuse_unknown
from pipelines.io.effects import Effect, transaction, write_once
from pipelines.io.errors import AccessRefused, ConnectionFailed, ConnectorError, ExportRefused, QueryFailed
from pipelines.io.frames import FrameKind, is_streamed, to_arrow, to_reader
from pipelines.io.sqlalchemy.dialect import Dialect
from pipelines.io.sqlalchemy.dialects import dialect_of
from pipelines.io.sqlalchemy.reading import read_batches, read_query
from pipelines.io.sqlalchemy.session import Ledger, Session
from pipelines.io.sqlalchemy.settings import AlchemySettings
from pipelines.io.sqlalchemy.writing import Order, stage_frame, write_frame, write_query
from pipelines.io.sqlconnector import SqlConnector, bound_values
from pipelines.io.sqltext import Relation, bind, bound_in, first_word

if TYPE_CHECKING:
    from pipelines.io.config import Profile

# Waits between tries, in seconds: long enough for a restart, short enough for someone who mistyped the host.
DELAYS = (0.2, 0.5, 1.0, 2.0)

_LIMITED = frozenset({"SELECT", "WITH", "TABLE", "VALUES"})


class AlchemyConnector(SqlConnector):
    """Loads from and exports to one database by SQLAlchemy. Its subclasses read their keys of the profile."""

    def __init__(self, settings: AlchemySettings) -> None:
        self._settings = settings
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._keeps = False

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(cls.settings_of(profile))

    @classmethod
    @abstractmethod
    def settings_of(cls, profile: Profile) -> AlchemySettings:
        """Read the keys of the profile."""

    @property
    def schema(self) -> str:
        return self._settings.schema or ""

    @property
    def glot(self) -> str | None:
        return self._dialect.glot

    def quoted(self, *names: str) -> str:
        return ".".join(self._dialect.quoted(name) for name in names if name)

    def literal(self, text: str) -> str:
        return self._dialect.literal(text)

    def staged_sql(self, name: str) -> str:
        return self._dialect.staged_name(name)

    def load(self, query: str, limit: int | None = None, frame: FrameKind = "pandas", **binds: Any) -> Any:
        """Return the rows of a query; `:name` in it takes the value of that keyword.

        Of several statements the last one gives the rows. `frame` is "pandas", "arrow" or "polars".
        """
        with self.transaction() as session:
            return self.read(session, query, limit=limit, frame=frame, **bound_values(binds))

    def read(
        self,
        session: Session,
        query: str,
        *,
        limit: int | None = None,
        frame: FrameKind = "pandas",
        **binds: Any,
    ) -> Any:
        last = self._prepared(session, query, limit, binds)
        return read_query(session, last, binds, frame)

    def stream(self, query: str, limit: int | None = None, **binds: Any) -> pa.RecordBatchReader:
        """Return the rows of a query as Arrow batches, in bounded memory; it holds a connection."""
        values = bound_values(binds)
        opened = self.transaction()
        session = opened.__enter__()
        try:
            reader = read_batches(session, self._prepared(session, query, limit, values), values)
        except BaseException as error:
            if not opened.__exit__(type(error), error, error.__traceback__):
                raise
        return pa.RecordBatchReader.from_batches(reader.schema, _closing(reader, opened))

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
        overwrite_types: Mapping[str, str] | None = None,
        **mage: Any,
    ) -> int:
        """Write a frame into a table, all or nothing, and return its rows.

        What comes in batches goes out in batches, and never lies in memory as a whole. `replace` refills
        a table of the same columns and types, with all that hangs on it; otherwise a new one takes its
        place. `append` wants the table's columns. `merge` updates by `keys`. Schema and table are made
        when they are absent. Names are taken as they are.
        """
        refuse_unknown(f"{type(self).__name__}.export", mage)
        policy = Policy.of(
            if_exists,
            keys=keys,
            unique_constraints=unique_constraints,
            unique_conflict_method=unique_conflict_method,
        )
        target = self.relation(schema_name, table_name)
        order = Order(target, policy.of_next_write(f"{self.name}:{target}"), overwrite_types or {})
        rows = to_reader(df, index=index) if is_streamed(df) else to_arrow(df, index=index)
        return self.write_once(str(order.target), lambda session: write_frame(session, rows, order))

    def execute(self, query: str, **binds: Any) -> int:
        """Run one or more statements in one transaction and return how many rows the last one touched."""
        touched = 0
        with (
            self._session() as session,
            _told(session.dialect, self._settings, None),
            transaction(Ledger(session)),
        ):
            for statement in self.statements(query):
                here = bound_in(statement, binds)
                touched = self._touched(session, self._bound(session, statement, here), here)
        return touched

    def close(self) -> None:
        connection, self._connection = self._connection, None
        engine, self._engine = self._engine, None
        self._keeps = False
        if connection is not None:
            connection.close()
        if engine is not None:
            engine.dispose()

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def write_once(self, target: str, write: Callable[[Session], int]) -> int:
        effect = Effect.next(f"{self.name}:{target}")
        with self._session() as session, _told(session.dialect, self._settings, target):
            ledger = Ledger(session)
            if effect is not None:
                ledger.create()
            return write_once(ledger, effect, lambda: write(session))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with self._session() as session, _told(session.dialect, self._settings, None):
            session.dialect.begin_reading(session)
            try:
                yield session
                Ledger(session).commit()
            except BaseException:
                Ledger(session).rollback()
                raise

    def run(self, session: Session, statement: str) -> int:
        return max(int(session.execute(statement).rowcount), 0)

    def stage(self, session: Session, name: str, data: Any) -> None:
        stage_frame(session, name, to_reader(data) if is_streamed(data) else to_arrow(data))

    def write_query(self, session: Session, query: str, target: Relation, policy: Policy) -> int:
        return write_query(session, query, Order(target, policy))

    @property
    def _dialect(self) -> Dialect:
        return self._settings.dialect

    def _prepared(self, session: Session, query: str, limit: int | None, binds: Mapping[str, Any]) -> str:
        *before, last = self.statements(self._bound(session, query, binds)) or [""]
        if not last:
            raise QueryFailed("the query is empty")
        for statement in before:
            session.execute(statement)
        if limit is not None and first_word(last) in _LIMITED:
            last = session.dialect.limited(last, int(limit))
        return last

    def _bound(self, session: Session, query: str, binds: Mapping[str, Any]) -> str:
        place = session.dialect.place("{}")
        if not binds:
            return query
        return bind(query, binds, place or ":{}", percent=session.dialect.percent if place else "%")

    @staticmethod
    def _touched(session: Session, statement: str, binds: Mapping[str, Any]) -> int:
        if binds and session.dialect.place("x") is None:
            result = session.connection.execute(sa.text(statement), binds)
        else:
            result = session.execute(statement, binds)
        return len(result.fetchall()) if result.returns_rows else max(result.rowcount, 0)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with self._only_work():
            session = Session(self._opened(), self._dialect, self._settings.schema)
            try:
                yield session
            finally:
                if self._keeps:
                    session.dialect.unlock(session)
                else:
                    self.close()

    def _opened(self) -> sa.Connection:
        if self._connection is None or self._connection.invalidated or self._connection.closed:
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sa.Connection:
        for delay in DELAYS:
            try:
                return self._connect()
            except AccessRefused:
                raise
            except ConnectionFailed:
                time.sleep(delay)
        return self._connect()

    def _connect(self) -> sa.Connection:
        if self._engine is None:
            self._engine = self._settings.engine()
        try:
            return self._engine.connect()
        except sa.exc.DBAPIError as error:
            # Not chained: the driver's own error may repeat what it was given.
            raise self._failure(error) from None

    def _failure(self, error: sa.exc.DBAPIError) -> ConnectionFailed:
        settings = self._settings
        reason = settings.masked(self._dialect.sentence(error))
        place = f"{self._dialect.label} at {settings.address} (profile {settings.profile!r})"
        if self._dialect.is_refusal(error):
            return AccessRefused(f"{place} refused the connection: {reason}. {settings.remedy}")
        return ConnectionFailed(f"no connection to {place}: {reason}. {settings.remedy}")


class SQLAlchemy(AlchemyConnector):
    """Loads from and exports to any database that SQLAlchemy has a dialect and a driver for.

    Profile: SQLALCHEMY_URL, such as `mssql+pyodbc://user:password@host/database?driver=...`; and
    SQLALCHEMY_SCHEMA, without which tables go to the schema that the database takes by default.
    """

    name: ClassVar[str] = "sqlalchemy"

    @classmethod
    def settings_of(cls, profile: Profile) -> AlchemySettings:
        return AlchemySettings.of_url(profile, str(profile.require("SQLALCHEMY_URL")), dialect_of)


def _closing(reader: pa.RecordBatchReader, opened: Any) -> Iterator[pa.RecordBatch]:
    """Yield all batches and end the transaction after the last; also when nobody wants the rest."""
    with _entered(opened):
        yield from reader


@contextmanager
def _entered(opened: Any) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not opened.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        opened.__exit__(None, None, None)


@contextmanager
def _told(dialect: Dialect, settings: AlchemySettings, target: str | None) -> Iterator[None]:
    """Raise what the driver raises as our own errors."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise _translated(dialect, settings, target, error) from error
    except sa.exc.SQLAlchemyError as error:
        raise QueryFailed(" ".join(str(error).split())) from error


def _translated(
    dialect: Dialect, settings: AlchemySettings, target: str | None, error: sa.exc.DBAPIError
) -> ConnectorError:
    sentence = settings.masked(dialect.sentence(error))
    if dialect.is_lost(error):
        return ConnectionFailed(
            f"the connection to {dialect.label} at {settings.address} (profile {settings.profile!r}) "
            f"was lost: {sentence}"
        )
    kind = QueryFailed if target is None else ExportRefused
    told = kind(sentence if target is None else f"cannot write to {target}: {sentence}")
    told.statement, told.offset = error.statement, dialect.offset(error)
    return told

"""The Postgres connector."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd
import psycopg2
import pyarrow as pa

from pipelines.io.base import Policy, refuse_unknown
from pipelines.io.effects import EFFECTS_COLUMNS, EFFECTS_TABLE, Effect, transaction, write_once
from pipelines.io.errors import ConnectionFailed, ConnectorError, ExportRefused, QueryFailed
from pipelines.io.frames import FrameKind, give, is_streamed, to_arrow, to_reader
from pipelines.io.postgres import tables
from pipelines.io.postgres.adbc import read_table, stream_query
from pipelines.io.postgres.connecting import Connection, Cursor, PostgresSettings, connect
from pipelines.io.postgres.fields import Field, frame_of, renamed
from pipelines.io.postgres.reading import Plan, copy_out, describe, fetch, plan_of
from pipelines.io.postgres.shares import read_shares, shares_of
from pipelines.io.postgres.writing import Order, stage_frame, write_frame, write_query
from pipelines.io.sqlconnector import SqlConnector, bound_values
from pipelines.io.sqltext import Relation, bind, first_word, only_reads, statements

if TYPE_CHECKING:
    from pipelines.io.config import Profile

# From here on ADBC is faster, although it opens a connection: in bytes, as the planner expects them.
_LARGE = 4 << 20

# How COPY says where it stopped: `COPY trips, line 3, column fare: "abc"`.
_COPY_PLACE = re.compile(
    r'COPY [^,]+, line (?P<line>\d+)(?:, column (?P<column>[^:]+): (?P<value>".*"))?', re.DOTALL
)


class Postgres(SqlConnector):
    """Loads from and exports to Postgres.

    Profile: POSTGRES_HOST, POSTGRES_DBNAME, POSTGRES_USER; and, with defaults, POSTGRES_PORT (5432),
    POSTGRES_PASSWORD, POSTGRES_SCHEMA (public), POSTGRES_CONNECT_TIMEOUT (10 seconds a try).
    """

    name: ClassVar[str] = "postgres"

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._keeps = False
        self._changed = False  # the kept connection may see what another does not

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(PostgresSettings.of(profile))

    @property
    def schema(self) -> str:
        return self._settings.schema

    def load(self, query: str, limit: int | None = None, frame: FrameKind = "pandas", **binds: Any) -> Any:
        """Return the rows of a query; `:name` in it takes the value of that keyword.

        Of several statements the last one gives the rows. Whole numbers and booleans that lack values
        come as nullable types, decimals as Decimal, JSON and lists as Python values. What the server
        expects to be large comes by ADBC, a whole large table by several connections at once.
        """
        with self.transaction(changes=False) as session:
            asked = self._asked(session, query, limit, bound_values(binds))
            plan = plan_of(session, asked.statement) if self._may_go_apart(asked) else None
            if plan is None or plan.expected_bytes <= _LARGE:
                return self._given(session, asked, frame)
            table = self._by_shares(session, asked, plan)
        if table is None:
            table = read_table(self._settings, asked.statement, asked.known)
        return frame_of(asked.known, table, frame)

    def _by_shares(self, session: Cursor, asked: _Asked, plan: Plan) -> pa.Table | None:
        """Return the rows by several connections; None where one is to read them.

        That may be able to do what several are not: there may be no room for them, somebody may wait for the
        table, and a right on columns alone is none on the places of rows.
        """
        with suppress(ConnectorError, psycopg2.Error):
            shares = shares_of(session, asked.statement, plan)
            return None if shares is None else read_shares(self._settings, shares, asked.known)
        return None

    def stream(self, query: str, limit: int | None = None, **binds: Any) -> pa.RecordBatchReader:
        """Return the rows of a query as Arrow batches, in bounded memory, for one pass.

        A numeric without declared digits comes as text, arrays as JSON. Only one query that reads is
        streamed: several statements, and what follows `execute` in the same `with`, are loaded first.
        """
        with self.transaction(changes=False) as session:
            asked = self._asked(session, query, limit, bound_values(binds))
            if not self._may_go_apart(asked):
                return to_reader(self._given(session, asked, "arrow"))
        return stream_query(self._settings, asked.statement, asked.known)

    def read(
        self,
        session: Cursor,
        query: str,
        *,
        limit: int | None = None,
        frame: FrameKind = "pandas",
        **binds: Any,
    ) -> Any:
        return self._given(session, self._asked(session, query, limit, binds), frame)

    def _asked(self, session: Cursor, query: str, limit: int | None, binds: dict[str, Any]) -> _Asked:
        """Run all statements but the last, and find the columns of that one."""
        *before, last = statements(self._bound(session, query, binds)) or [""]
        if not last:
            raise QueryFailed("the query is empty")
        for statement in before:
            session.execute(statement)
        if limit is not None and first_word(last) in ("SELECT", "WITH", "TABLE", "VALUES"):
            last = f"SELECT * FROM ({last}\n) AS limited LIMIT {int(limit)}"
        only_reads_it = not before and only_reads(last)
        self._changed = self._changed or not only_reads_it
        return _Asked(last, describe(session, last), only_reads_it)

    def _may_go_apart(self, asked: _Asked) -> bool:
        """Tell whether another connection would see the same: no settings, no temporary tables of ours."""
        return bool(asked.only_reads and asked.fields and not (self._keeps and self._changed))

    @staticmethod
    def _given(session: Cursor, asked: _Asked, frame: FrameKind) -> Any:
        if asked.fields is None:
            fields, table, objects = fetch(session, asked.statement)
            loaded = renamed(fields, give(table, "pandas", objects).infer_objects())
            return loaded if frame == "pandas" else give(to_arrow(loaded), frame)
        if not asked.fields:
            return pd.DataFrame()
        return frame_of(asked.fields, copy_out(session, asked.statement, asked.fields), frame)

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
        cascade_on_drop: bool = False,
        **mage: Any,
    ) -> int:
        """Write a frame into a table by COPY, all or nothing, and return its rows.

        What comes in batches goes out in batches, and never lies in memory as a whole.

        `replace` keeps a table of the same columns and types with all that hangs on it, and refills it;
        otherwise a new one takes its place. `append` wants the table's columns. `merge` updates by `keys`.
        Schema and table are made when they are absent. Names are taken as they are.
        """
        refuse_unknown("Postgres.export", mage)
        policy = Policy.of(
            if_exists,
            keys=keys,
            unique_constraints=unique_constraints,
            unique_conflict_method=unique_conflict_method,
        )
        target = self.relation(schema_name, table_name)
        policy = policy.of_next_write(f"postgres:{target}")
        order = Order(target, policy, cascade_on_drop, overwrite_types or {})
        rows = to_reader(df, index=index) if is_streamed(df) else to_arrow(df, index=index)
        return self._write_once(str(order.target), lambda cursor: write_frame(cursor, rows, order))

    def execute(self, query: str, **binds: Any) -> int:
        """Run one or more statements in one transaction and return how many rows the last one touched."""
        with self.transaction() as cursor:
            cursor.execute(self._bound(cursor, query, binds))
            return cursor.rowcount

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._keeps = self._changed = False
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def write_once(self, target: str, write: Callable[[Cursor], int]) -> int:
        self._changed = True
        return self._write_once(target, write)

    def _write_once(self, target: str, write: Callable[[Cursor], int]) -> int:
        effect = Effect.next(f"postgres:{target}")
        with self._open() as connection, connection.cursor() as cursor, _told(self._settings, target):
            ledger = _Ledger(cursor, Relation(self._settings.schema, EFFECTS_TABLE))
            if effect is not None:
                ledger.create()
            return write_once(ledger, effect, lambda: write(cursor))

    @contextmanager
    def transaction(self, *, changes: bool = True) -> Iterator[Cursor]:
        """Give a session; `changes` says that it may leave settings or temporary tables behind."""
        self._changed = self._changed or changes
        with (
            self._open() as connection,
            connection.cursor() as cursor,
            _told(self._settings, None),
            transaction(_Ledger(cursor, Relation(self._settings.schema, EFFECTS_TABLE))),
        ):
            yield cursor

    def run(self, session: Cursor, statement: str) -> int:
        session.execute(statement)
        return max(session.rowcount, 0)

    def stage(self, session: Cursor, name: str, data: Any) -> None:
        stage_frame(session, name, to_reader(data) if is_streamed(data) else to_arrow(data))

    def write_query(self, session: Cursor, query: str, target: Relation, policy: Policy) -> int:
        return write_query(session, query, Order(target, policy))

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings)
        try:
            yield self._connection
        finally:
            if not self._keeps:
                self.close()

    @staticmethod
    def _bound(cursor: Cursor, query: str, binds: dict[str, Any]) -> str:
        if not binds:
            return query
        return cursor.mogrify(bind(query, binds, "%({})s", percent="%%"), binds).decode()


@dataclass(frozen=True, slots=True)
class _Asked:
    """The statement that gives the rows, and its columns; None where only running it tells them."""

    statement: str
    fields: list[Field] | None
    only_reads: bool

    @property
    def known(self) -> list[Field]:
        return self.fields or []


class _Ledger:
    """Effect ids in a table of the same database; see `pipelines.io.effects`."""

    def __init__(self, cursor: Cursor, table: Relation) -> None:
        self._cursor = cursor
        self._table = table

    def create(self) -> None:
        """Make the table of effects unless it is there, in a transaction of its own.

        Nobody who comes first then has to wait for the whole export that made it.
        """
        if tables.columns_of(self._cursor, self._table) is not None:
            return
        with transaction(self):
            tables.create_schema(self._cursor, self._table.schema)
            tables.lock_name(self._cursor, f"table {self._table}")
            self._cursor.execute(f"CREATE TABLE IF NOT EXISTS {self._table.sql} ({EFFECTS_COLUMNS})")

    def begin(self) -> None:
        self._cursor.execute("BEGIN")

    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        if not self._cursor.connection.closed:
            with self._cursor.connection.cursor() as another:  # the first one knows which statement failed
                another.execute("ROLLBACK")

    def claim(self, effect: Effect) -> int | None:
        # First of all: a second process with the same effect waits here, and then finds it recorded.
        self._cursor.execute(
            f"INSERT INTO {self._table.sql} VALUES (%s, %s, -1, clock_timestamp()) ON CONFLICT DO NOTHING",
            (effect.id, effect.target),
        )
        if self._cursor.rowcount == 1:
            return None
        self._cursor.execute(f"SELECT rows FROM {self._table.sql} WHERE effect_id = %s", (effect.id,))
        row = self._cursor.fetchone()
        if row is not None and row[0] < 0:
            raise ExportRefused(
                f"an earlier try wrote to {effect.target} and ended its transaction by itself, so nobody "
                f"knows what it did; look, and delete the row {effect.id!r} of {self._table} to try again"
            )
        return int(row[0]) if row else 0

    def record(self, effect: Effect, rows: int) -> None:
        self._cursor.execute(
            f"UPDATE {self._table.sql} SET rows = %s WHERE effect_id = %s", (rows, effect.id)
        )


@contextmanager
def _told(settings: PostgresSettings, target: str | None) -> Iterator[None]:
    """Raise what the driver raises as our own errors, with table, column and value where they are known."""
    try:
        yield
    except psycopg2.Error as error:
        if _is_lost(error):
            raise ConnectionFailed(
                f"the connection to Postgres at {settings.address} (profile {settings.profile!r}) was lost: "
                f"{' '.join(str(error).split())}"
            ) from error
        if target is None:
            raise _with_place(QueryFailed(_sentence(error)), error) from error
        refused = ExportRefused(f"cannot write to {target}: {_sentence(error)}{_place(error)}")
        raise _with_place(refused, error) from error


def _with_place(made: ConnectorError, error: psycopg2.Error) -> ConnectorError:
    """Tell where in the statement the server found the fault."""
    position, sent = error.diag.statement_position, getattr(error.cursor, "query", None)
    if position is not None and sent is not None:
        made.statement, made.offset = sent.decode("utf-8", "replace"), int(position) - 1
    return made


def _is_lost(error: psycopg2.Error) -> bool:
    if error.pgcode is None:
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return error.pgcode.startswith(("08", "57P"))  # the line is down; the server is going down


def _sentence(error: psycopg2.Error) -> str:
    diagnosis = error.diag
    if diagnosis.message_primary is None:
        return " ".join(str(error).split())
    parts = [diagnosis.message_primary, diagnosis.message_detail, diagnosis.message_hint]
    return ". ".join(part.rstrip(".") for part in parts if part)


def _place(error: psycopg2.Error) -> str:
    match = _COPY_PLACE.search(error.diag.context or "")
    if match is None:
        return ""
    if match["column"] is None:
        return f" (row {int(match['line']) - 1})"
    return f" (column {match['column']!r}, row {int(match['line']) - 1}: {match['value']})"

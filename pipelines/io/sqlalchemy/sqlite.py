"""SQLite: types are what a column was declared as, and values are what they are.

What SQLite has no storage for is declared by names of our own, read back by them: decimals of more than
15 digits as text (a number would lose some), JSON as text, moments with a zone as text in UTC, durations
as whole microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from pipelines.io.columns import TableColumn, arrow_kind
from pipelines.io.errors import ExportRefused
from pipelines.io.sqlalchemy import values
from pipelines.io.sqlalchemy.dialect import ColumnType, Dialect, ResultColumn
from pipelines.io.sqlalchemy.reading import seen
from pipelines.io.sqltext import Relation, bind

if TYPE_CHECKING:
    from pipelines.io.sqlalchemy.session import Session

_EXACT_DIGITS = 15  # that a number of SQLite's keeps

_NAMES = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "text": "TEXT",
    "json": "JSON TEXT",
    "uuid": "UUID",
    "bytes": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "interval": "INTERVAL",
}
_NARROW = {
    pa.int8(): "INT2",
    pa.int16(): "INT2",
    pa.uint8(): "INT2",
    pa.int32(): "INT4",
    pa.uint16(): "INT4",
    pa.uint64(): "DECIMAL_TEXT(20,0)",
    pa.float32(): "FLOAT4",
}

# What a text must be that goes into a column of this kind.
_PARSED = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "numeric": pa.decimal256(76, 38),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}

# By the first that is found in the declared type. INTERVAL has INT in it.
_KINDS = (
    ("INTERVAL", "interval"),
    ("BOOL", "boolean"),
    ("JSON", "json"),
    ("UUID", "uuid"),
    ("DECIMAL", "numeric"),
    ("NUM", "numeric"),
    ("TIMESTAMPTZ", "timestamptz"),
    ("TIMESTAMP WITH TIME ZONE", "timestamptz"),
    ("DATETIME", "timestamp"),
    ("TIMESTAMP", "timestamp"),
    ("DATE", "date"),
    ("TIME", "time"),
    ("INT", "integer"),
    ("CHAR", "text"),
    ("CLOB", "text"),
    ("TEXT", "text"),
    ("BLOB", "bytes"),
    ("REAL", "float"),
    ("FLOA", "float"),
    ("DOUB", "float"),
)


class SQLiteDialect(Dialect):
    label: ClassVar[str] = "SQLite"
    glot: ClassVar[str | None] = "sqlite"

    def place(self, name: str) -> str | None:
        return f":{name}"

    def begin_reading(self, session: Session) -> None:
        session.execute("BEGIN")

    def begin_writing(self, session: Session) -> None:
        # At once, and not at the first row: a transaction that has read cannot always begin to write.
        session.execute("BEGIN IMMEDIATE")

    def create_schema(self, session: Session, schema: str | None) -> None:
        if schema and schema.lower() not in ("main", "temp"):
            raise ExportRefused(
                f"cannot write into the schema {schema!r}: a database of SQLite has no schemas; leave it away"
            )

    def column_type(self, name: str, arrow: pa.DataType, *, is_key: bool = False) -> ColumnType:
        kind = arrow_kind(name, arrow)
        if pa.types.is_dictionary(arrow):
            return self.column_type(name, arrow.value_type, is_key=is_key)
        if pa.types.is_decimal(arrow):
            word = "DECIMAL" if arrow.precision <= _EXACT_DIGITS else "DECIMAL_TEXT"
            return ColumnType(f"{word}({max(arrow.precision, arrow.scale)},{max(arrow.scale, 0)})", kind)
        return ColumnType(_NARROW.get(arrow, _NAMES[kind or "text"]), kind)

    def columns_of(self, session: Session, relation: Relation) -> tuple[TableColumn, ...] | None:
        schema = f"{self.quoted(relation.schema)}." if relation.schema else ""
        found = session.execute(f"PRAGMA {schema}table_xinfo({self.quoted(relation.name)})").fetchall()
        keys = sum(bool(is_key) for *_, is_key, _ in found)
        return (
            tuple(
                TableColumn(name, of, kind_of(of), _fills_itself(of, default, keys == 1 and is_key, hidden))
                for _, name, of, _, default, is_key, hidden in found
            )
            or None
        )

    def stage_query(self, session: Session, name: str, query: str) -> str:
        """Make the table by its declared types: CREATE TABLE AS would forget them."""
        declared = self.declared(session, query, {})
        if declared is None:
            return super().stage_query(session, name, query)
        stage = self.create_stage(session, name, declared)
        session.execute(f"INSERT INTO {stage} {query}")
        return stage

    def staged_columns(self, session: Session, name: str) -> tuple[TableColumn, ...]:
        columns = self.columns_of(session, Relation("temp", name)) or ()
        return tuple(column if column.type else self._found(session, name, column) for column in columns)

    def _found(self, session: Session, table: str, column: TableColumn) -> TableColumn:
        """Give a column that comes of an expression the type of its values."""
        stored = session.execute(
            f"SELECT DISTINCT typeof({self.quoted(column.name)}) FROM {self.quoted(table)} "
            f"WHERE {self.quoted(column.name)} IS NOT NULL"
        ).fetchall()
        kinds = {row[0] for row in stored}
        name = {"integer": "BIGINT", "real": "DOUBLE", "blob": "BLOB"}.get(min(kinds, default=""), "TEXT")
        if kinds == {"integer", "real"}:
            name = "DOUBLE"
        return TableColumn(column.name, name, kind_of(name), False)

    def update_from(
        self, session: Session, stage: str, target: Relation, keys: Sequence[str], others: Sequence[str]
    ) -> None:
        changes = ", ".join(f"{self.quoted(name)} = s.{self.quoted(name)}" for name in others)
        session.execute(
            f"UPDATE {self.relation(target)} AS t SET {changes} FROM {stage} AS s "
            f"WHERE {self.same_key('s', 't', keys)}"
        )

    def insert(
        self, session: Session, table: str, batch: pa.RecordBatch, kinds: Sequence[str | None]
    ) -> None:
        columns = [
            _stored(name, column, kind, table)
            for name, column, kind in zip(batch.schema.names, batch.columns, kinds, strict=True)
        ]
        places = ", ".join("?" * len(columns))
        cursor = session.connection.connection.cursor()
        try:
            cursor.executemany(
                f"INSERT INTO {table} ({self.listed(batch.schema.names)}) VALUES ({places})",
                list(zip(*columns, strict=True)),
            )
        except session.connection.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance("", None, error, type(error)) from error
        finally:
            cursor.close()

    def declared(
        self, session: Session, query: str, binds: Mapping[str, Any]
    ) -> list[tuple[str, str]] | None:
        """Return the columns of a query by name and declared type, or None for what is no query.

        The driver does not tell them; a view does, and it takes no bound values.
        """
        try:
            plain = bind(query, binds, "NULL") if binds else query
            session.execute(f"CREATE TEMPORARY VIEW millrace_described AS {plain}")
            try:
                found = session.execute("PRAGMA temp.table_info(millrace_described)").fetchall()
            finally:
                session.execute("DROP VIEW temp.millrace_described")
        except sa.exc.DBAPIError:
            return None
        return [(name, of) for _, name, of, *_ in found]

    def described(self, session: Session, cursor: Any, declared: Any) -> list[ResultColumn]:
        names = [column[0] for column in cursor.description]
        types = [of for _, of in declared or ()]
        if len(types) != len(names):
            return [ResultColumn(name) for name in names]
        return [ResultColumn(name, _reader(of)) for name, of in zip(names, types, strict=True)]

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        return "database is locked" in str(error.orig)

    def is_refusal(self, error: sa.exc.DBAPIError) -> bool:
        return "unable to open" in str(error.orig)

    def offset(self, error: sa.exc.DBAPIError) -> int | None:
        match = re.search(r'near "(.+)": syntax|no such (?:column|table|function): (\S+)', str(error.orig))
        if match is None or not error.statement:
            return None
        word = re.escape(match[1] or match[2].split(".")[-1])
        found = [place.start() for place in re.finditer(rf"(?<!\w){word}(?!\w)", error.statement)]
        return found[0] if len(found) == 1 else None


def kind_of(declared: str) -> str:
    """Return what a declared type is about, in the words of `pipelines.io.columns`."""
    upper = declared.upper()
    return next((kind for word, kind in _KINDS if word in upper), "other")


def _fills_itself(of: str, default: Any, is_only_key: Any, hidden: int) -> bool:
    return default is not None or hidden in (2, 3) or bool(is_only_key and of.upper() == "INTEGER")


def _stored(name: str, column: pa.Array, kind: str | None, table: str) -> Sequence[Any]:
    """Return values as the driver stores them."""
    plain = values.plain(name, column)
    if kind in _PARSED and (pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type)):
        plain = _parsed(name, plain, _PARSED[kind], table)
    if kind == "timestamptz":
        plain = _in_utc(plain)
    found: list[Any] = _storable(plain).to_pylist()
    return found


def _in_utc(plain: pa.Array) -> pa.Array:
    """Give moments without a zone, and dates, the zone that they have by agreement."""
    if pa.types.is_date(plain.type):
        plain = plain.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(plain.type) and plain.type.tz is None:
        return plain.cast(pa.timestamp(plain.type.unit, "UTC"))
    return plain


def _parsed(name: str, texts: pa.Array, of: pa.DataType, table: str) -> pa.Array:
    """Read texts for a column of another type: SQLite would take them as they are, and say nothing."""
    try:
        parsed = texts.cast(of)
    except pa.ArrowInvalid as error:
        raise ExportRefused(
            f"cannot write to {table}: column {name!r}: {error}. Convert the column"
        ) from None
    return texts if pa.types.is_decimal(of) else parsed


def _storable(plain: pa.Array) -> pa.Array:
    of = plain.type
    if pa.types.is_timestamp(of):
        texts = values.moments(plain)
        return texts if of.tz is None else pc.binary_join_element_wise(texts, "+00:00", "")
    if pa.types.is_time(of):
        return values.hours(plain)
    if pa.types.is_duration(of):
        return values.microseconds(plain)
    if pa.types.is_date64(of):
        plain = plain.cast(pa.date32())
    if pa.types.is_date(of) or pa.types.is_decimal(of) or of == pa.uint64():
        return plain.cast(pa.string())
    if pa.types.is_boolean(of):
        return plain.cast(pa.int8())
    return plain


def _reader(declared: str) -> Callable[[Sequence[Any]], pa.Array] | None:
    """Return how the values of a column become an array; what is stored otherwise is taken as it is."""
    typed = _typed(declared)
    if typed is None:
        return None

    def array(given: Sequence[Any]) -> pa.Array:
        try:
            return typed(given)
        except (pa.ArrowException, ArithmeticError, AttributeError, TypeError, ValueError):
            return seen(given)

    return array


def _typed(declared: str) -> Callable[[Sequence[Any]], pa.Array] | None:
    kind = kind_of(declared)
    if kind == "numeric":
        return _decimals(declared)
    if kind == "integer":
        of = {"INT2": pa.int16(), "INT4": pa.int32()}.get(declared.upper(), pa.int64())
        return lambda given: pa.array(given, of)
    if kind == "float":
        of = pa.float32() if declared.upper() == "FLOAT4" else pa.float64()
        return lambda given: pa.array(given, of)
    return _MAKERS.get(kind)


def _decimals(declared: str) -> Callable[[Sequence[Any]], pa.Array] | None:
    match = re.search(r"\((\d+),\s*(\d+)\)", declared)
    if match is None:
        return None
    of = pa.decimal128(38, int(match[2]))
    return lambda given: pa.array([None if value is None else Decimal(str(value)) for value in given], of)


def _booleans(given: Sequence[Any]) -> pa.Array:
    if not set(given) <= {0, 1, None}:
        raise ValueError("a value is neither true nor false")
    return pa.array([None if value is None else bool(value) for value in given], pa.bool_())


def _texts(of: pa.DataType) -> Callable[[Sequence[Any]], pa.Array]:
    return lambda given: pa.array(given, pa.string()).cast(of)


def _json(given: Sequence[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(given, pa.string()))


def _uuids(given: Sequence[Any]) -> pa.Array:
    stored = pa.array([None if value is None else UUID(value).bytes for value in given], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


_MAKERS: dict[str, Callable[[Sequence[Any]], pa.Array]] = {
    "boolean": _booleans,
    "text": lambda given: pa.array(given, pa.string()),
    "bytes": lambda given: pa.array(given, pa.binary()),
    "date": _texts(pa.date32()),
    "time": lambda given: values.hours_of(pa.array(given, pa.string())),
    "timestamp": _texts(pa.timestamp("us")),
    "timestamptz": _texts(pa.timestamp("us", "UTC")),
    "interval": lambda given: pa.array(given, pa.int64()).cast(pa.duration("us")),
    "json": _json,
    "uuid": _uuids,
}

"""What databases do each its own way; here as most of them do it, and in one file for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.sql import sqltypes

from pipelines.io.columns import TableColumn, arrow_kind
from pipelines.io.errors import ExportRefused, QueryFailed
from pipelines.io.sqlalchemy import values
from pipelines.io.sqltext import Relation, literal

if TYPE_CHECKING:
    from pipelines.io.sqlalchemy.session import Session

_KINDS: tuple[tuple[type[Any], str], ...] = (
    (sqltypes.Boolean, "boolean"),
    (sqltypes.Integer, "integer"),
    (sqltypes.Float, "float"),
    (sqltypes.Numeric, "numeric"),
    (sqltypes.Uuid, "uuid"),
    (sqltypes.JSON, "json"),
    (sqltypes.String, "text"),
    (sqltypes.LargeBinary, "bytes"),
    (sqltypes.Time, "time"),
    (sqltypes.Date, "date"),
    (sqltypes.Interval, "interval"),
)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type as the database spells it; `kind` None says that a frame gives no hint."""

    name: str
    kind: str | None


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a result, and how the driver's values become Arrow's; None: by looking at them."""

    name: str
    array: Callable[[Sequence[Any]], pa.Array] | None = None


class Dialect:
    """A database that is spoken to in SQL that most databases know, by SQLAlchemy's own words."""

    label: ClassVar[str] = "the database"  # in sentences
    glot: ClassVar[str | None] = None  # what sqlglot calls its SQL
    ddl_commits: ClassVar[bool] = False  # CREATE and RENAME end the transaction before them
    rows_per_batch: ClassVar[int] = 20_000

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self._preparer = dialect.identifier_preparer

    # --- names

    def quoted(self, name: str) -> str:
        if not name or "\0" in name:
            raise QueryFailed(f"{name!r} cannot be the name of a table or column")
        return self._preparer.quote_identifier(name)

    def literal(self, text: str) -> str:
        return literal(text)

    def relation(self, relation: Relation) -> str:
        table = self.quoted(relation.name)
        return f"{self.quoted(relation.schema)}.{table}" if relation.schema else table

    def listed(self, names: Sequence[str]) -> str:
        return ", ".join(self.quoted(name) for name in names)

    def place(self, name: str) -> str | None:
        """Return how the driver names the value `name` in a statement, if it can name values."""
        return {"pyformat": f"%({name})s", "named": f":{name}"}.get(self._dialect.paramstyle)

    @property
    def percent(self) -> str:
        """How a percent sign stands in a statement that has values."""
        return "%%" if self._dialect.paramstyle in ("pyformat", "format") else "%"

    # --- transactions

    def begin_reading(self, session: Session) -> None:
        """SQLAlchemy begins by itself, with the first statement."""

    def begin_writing(self, session: Session) -> None:
        """SQLAlchemy begins by itself, with the first statement."""

    def lock(self, session: Session, name: str) -> None:
        """Hold others who want the same name; where a database has no such locks, nothing is held."""

    def unlock(self, session: Session) -> None:
        """Let go of the names that were locked."""

    # --- types

    def column_type(self, name: str, arrow: pa.DataType, *, is_key: bool = False) -> ColumnType:
        """Return the type of a column of a new table."""
        kind = arrow_kind(name, arrow)
        made = self._types(arrow).get(kind or "text")
        if made is None:
            raise ExportRefused(
                f"column {name!r} has the type {arrow}, which {self.label} has no type for; convert it first"
            )
        if is_key and isinstance(made, sqltypes.Text):
            made = sa.String(255)  # most databases take no long text as a key
        return ColumnType(made.compile(dialect=self._dialect), kind)

    def _types(self, arrow: pa.DataType) -> Mapping[str, sa.types.TypeEngine[Any]]:
        scale = arrow.scale if pa.types.is_decimal(arrow) else 0
        return {
            "boolean": sa.Boolean(),
            "integer": _integer(arrow),
            "float": sa.Double(),
            "numeric": sa.Numeric(38, scale),
            "text": sa.Text(),
            "json": sa.Text(),
            "uuid": sa.String(36),
            "bytes": sa.LargeBinary(),
            "date": sa.Date(),
            "time": sa.Time(),
            "timestamp": sa.DateTime(),
            "timestamptz": sa.DateTime(timezone=True),
        }

    def columns_of(self, session: Session, relation: Relation) -> tuple[TableColumn, ...] | None:
        """Return the columns of a table in their order, or None when there is no such table."""
        try:
            found = sa.inspect(session.connection).get_columns(relation.name, schema=relation.schema or None)
        except sa.exc.NoSuchTableError:
            return None
        return tuple(self._column(column) for column in found)

    def _column(self, column: Mapping[str, Any]) -> TableColumn:
        of = column["type"]
        fills_itself = bool(
            column.get("default") is not None
            or column.get("autoincrement") is True
            or column.get("computed")
            or column.get("identity")
        )
        try:
            name = of.compile(dialect=self._dialect)
        except sa.exc.CompileError:  # a type that SQLAlchemy does not know
            name = "other"
        return TableColumn(column["name"], name, self._kind(of), fills_itself)

    @staticmethod
    def _kind(of: sa.types.TypeEngine[Any]) -> str:
        if isinstance(of, sqltypes.DateTime):
            return "timestamptz" if getattr(of, "timezone", False) else "timestamp"
        return next((kind for known, kind in _KINDS if isinstance(of, known)), "other")

    # --- tables

    def create_schema(self, session: Session, schema: str | None) -> None:
        """Make the schema unless it is there."""
        if schema and not sa.inspect(session.connection).has_schema(schema):
            session.connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))

    def create_table(self, session: Session, table: str, columns: Sequence[tuple[str, str]]) -> None:
        """Make a table of a quoted name."""
        session.execute(f"CREATE TABLE {table} ({self.definitions(columns)})")

    def definitions(self, columns: Sequence[tuple[str, str]]) -> str:
        return ", ".join(f"{self.quoted(name)} {of}" for name, of in columns)

    def create_stage(self, session: Session, name: str, columns: Sequence[tuple[str, str]]) -> str:
        """Make a table that only this session sees, and return its quoted name."""
        stage = self.quoted(name)
        session.execute(f"CREATE TEMPORARY TABLE {stage} ({self.definitions(columns)})")
        session.scratch.append(stage)
        return stage

    def stage_query(self, session: Session, name: str, query: str) -> str:
        """Make the rows of a query a table that only this session sees, and return its quoted name."""
        stage = self.quoted(name)
        session.execute(f"CREATE TEMPORARY TABLE {stage} AS {query}")
        session.scratch.append(stage)
        return stage

    def staged_columns(self, session: Session, name: str) -> tuple[TableColumn, ...]:
        """Return the columns of a table that `stage_query` made."""
        return self.columns_of(session, Relation("", name)) or ()

    def staged_name(self, name: str) -> str:
        """Return the quoted name of a staged table."""
        return self.quoted(name)

    def drop_scratch(self, session: Session, table: str) -> None:
        """Drop a table of this session; connections may be used again."""
        session.execute(f"DROP TABLE {table}")

    def refuse_dependents(self, session: Session, relation: Relation) -> None:
        """Raise when others depend on a table that is to be replaced, and would be lost or broken."""

    def empty(self, session: Session, relation: Relation) -> None:
        """Take all rows out, within the transaction."""
        session.execute(f"DELETE FROM {self.relation(relation)}")

    def add_unique_index(self, session: Session, relation: Relation, keys: Sequence[str]) -> None:
        name = self.quoted(f"millrace_key_{session.mark}")
        session.execute(f"CREATE UNIQUE INDEX {name} ON {self.relation(relation)} ({self.listed(keys)})")

    def put_in_place(self, session: Session, aside: Relation, target: Relation) -> None:
        """Let the table `aside` take the place of `target`; harmless when that was half done already."""
        if self.columns_of(session, target) is not None:
            session.execute(f"DROP TABLE {self.relation(target)}")
        session.execute(f"ALTER TABLE {self.relation(aside)} RENAME TO {self.quoted(target.name)}")

    def update_from(
        self, session: Session, stage: str, target: Relation, keys: Sequence[str], others: Sequence[str]
    ) -> None:
        """Update the rows of `target` whose key is in `stage`; as databases without UPDATE ... FROM do it."""
        same = self.same_key("s", self.relation(target), keys)
        changes = ", ".join(
            f"{self.quoted(name)} = (SELECT s.{self.quoted(name)} FROM {stage} s WHERE {same})"
            for name in others
        )
        session.execute(
            f"UPDATE {self.relation(target)} SET {changes} "
            f"WHERE EXISTS (SELECT 1 FROM {stage} s WHERE {same})"
        )

    def same_key(self, left: str, right: str, keys: Sequence[str]) -> str:
        return " AND ".join(f"{left}.{self.quoted(key)} = {right}.{self.quoted(key)}" for key in keys)

    # --- rows

    def insert(
        self, session: Session, table: str, batch: pa.RecordBatch, kinds: Sequence[str | None]
    ) -> None:
        """Add rows to a table of a quoted name: many with one call of the driver."""
        names = batch.schema.names
        # Keys of our own: a driver could stumble over what a column is called.
        keys = [f"v{place}" for place in range(len(names))]
        columns: list[sa.ColumnClause[Any]] = [sa.column(sa.quoted_name(name, quote=True)) for name in names]
        places: dict[str, sa.BindParameter[Any]] = {
            name: sa.bindparam(key) for name, key in zip(names, keys, strict=True)
        }
        given = [values.python_values(column) for column in batch.columns]
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*given, strict=True)]
        if rows:
            # The name is quoted already, with its schema.
            into = sa.table(sa.quoted_name(table, quote=False), *columns)
            session.connection.execute(into.insert().values(places), rows)

    def limited(self, query: str, limit: int) -> str:
        return f"SELECT * FROM ({query}\n) limited LIMIT {limit}"

    def declared(self, session: Session, query: str, binds: Mapping[str, Any]) -> Any:
        """Return what must be learned of a query before it runs; here nothing."""

    def described(self, session: Session, cursor: Any, declared: Any) -> list[ResultColumn]:
        """Return the columns of a result by its driver's cursor."""
        return [ResultColumn(column[0]) for column in cursor.description]

    def result(self, session: Session, query: str, binds: Mapping[str, Any]) -> sa.CursorResult[Any]:
        """Run a query whose rows stay with the server, or the driver, until they are fetched."""
        options = {"stream_results": True, "max_row_buffer": self.rows_per_batch}
        if not binds or self.place("x") is not None:
            return session.connection.exec_driver_sql(query, dict(binds) or None, execution_options=options)
        return session.connection.execute(sa.text(query), dict(binds), execution_options=options)

    # --- errors

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        return bool(error.connection_invalidated)

    def is_refusal(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether the server answered, and let us not in."""
        return False

    def sentence(self, error: sa.exc.DBAPIError) -> str:
        return " ".join(str(error.orig).split())

    def offset(self, error: sa.exc.DBAPIError) -> int | None:
        """Return where in the statement the fault is, in characters, if the server says so."""
        return None


def _integer(arrow: pa.DataType) -> sa.types.TypeEngine[Any]:
    if arrow == pa.uint64():
        return sa.Numeric(20, 0)
    if not pa.types.is_integer(arrow) or arrow.bit_width == 64 or arrow == pa.uint32():
        return sa.BigInteger()
    return sa.SmallInteger() if arrow.bit_width == 8 or arrow == pa.int16() else sa.Integer()


def batches_of(reader: pa.RecordBatchReader, rows: int) -> Iterator[pa.RecordBatch]:
    """Cut what comes into pieces of at most that many rows."""
    for batch in reader:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)

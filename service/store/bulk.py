"""Inserting many rows by one statement whose parts are worked out once.

Accepting events is where the service's speed is decided. There the work that `Connection.execute` does for
each statement and row is several times that of the database itself; and on SQLite every row is a call of its
own, after which the writer has to wait its turn among the threads that answer requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Table

from service.store.statements import AnyRow

MAX_VALUES = 8000  # bound values in one statement; SQLite allows 32,766

Convert = Callable[[Any], Any]
Statement = tuple[str, tuple[Any, ...]]  # with its values


@dataclass(frozen=True, slots=True)
class _Plan:
    """An INSERT as one dialect writes it."""

    head: str
    row: str
    tail: str
    converts: tuple[tuple[str, Convert | None], ...]

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        return [row[name] if convert is None else convert(row[name]) for name, convert in self.converts]


class Together:
    """Inserts that need nothing of each other: Postgres takes them all in one round trip."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._statements: list[Statement] = []

    def add(self, insert: BulkInsert, rows: Sequence[Mapping[str, Any]]) -> None:
        self._statements += insert.statements(self._connection.dialect, rows)

    def send(self) -> None:
        """Execute what was added, in that order."""
        statements, self._statements = self._statements, []
        if self._connection.dialect.name == "postgresql" and statements:
            text = "; ".join(text for text, _ in statements)
            statements = [(text, tuple(value for _, values in statements for value in values))]
        for text, values in statements:
            self._connection.exec_driver_sql(text, values)


class BulkInsert:
    """An INSERT of rows that all have a value for each of `columns`; by default for every column."""

    def __init__(self, table: Table, *columns: str, tail: str = "") -> None:
        self._table = table
        self._columns = columns or tuple(column.name for column in table.columns)
        self._tail = tail
        self._plans: dict[str, _Plan] = {}

    def __call__(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[AnyRow]:
        """Insert the rows and return what the tail's RETURNING gives, if it has one."""
        returned: list[AnyRow] = []
        for statement, values in self.statements(connection.dialect, rows):
            result = connection.exec_driver_sql(statement, values)
            if result.returns_rows:
                returned += result.all()
        return returned

    def statements(self, dialect: Dialect, rows: Sequence[Mapping[str, Any]]) -> Iterator[Statement]:
        """Yield the statements that insert the rows, each with its values."""
        plan = self._plan(dialect)
        most = MAX_VALUES // len(self._columns)
        for begin in range(0, len(rows), most):
            part = rows[begin : begin + most]
            text = f"{plan.head}{', '.join([plan.row] * len(part))}{plan.tail}"
            yield text, tuple(value for row in part for value in plan.values(row))

    def _plan(self, dialect: Dialect) -> _Plan:
        known = self._plans.get(dialect.name)
        if known is None:
            known = self._plans[dialect.name] = self._made_for(dialect)
        return known

    def _made_for(self, dialect: Dialect) -> _Plan:
        quote = dialect.identifier_preparer.quote
        mark = "?" if dialect.paramstyle == "qmark" else "%s"
        names = ", ".join(quote(name) for name in self._columns)
        return _Plan(
            head=f"INSERT INTO {quote(self._table.name)} ({names}) VALUES ",
            row=f"({', '.join([mark] * len(self._columns))})",
            tail=f" {self._tail}" if self._tail else "",
            converts=tuple((name, self._convert(name, dialect)) for name in self._columns),
        )

    def _convert(self, name: str, dialect: Dialect) -> Convert | None:
        kind = self._table.columns[name].type.dialect_impl(dialect)
        convert: Convert | None = kind.bind_processor(dialect)
        return convert

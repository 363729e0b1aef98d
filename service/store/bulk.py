"""Inserting many rows by one statement whose parts are worked out once.

Accepting events is where the service's speed is decided. There the work that `Connection.execute` does for
each statement and row is several times that of the database itself; and on SQLite every row is a call of its
own, after which the writer has to wait its turn among the threads that answer requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Table

from service.store.statements import AnyRow

MAX_VALUES = 8000  # bound values in one statement; SQLite allows 32,766

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """An INSERT as one dialect writes it."""

    head: str
    row: str
    tail: str
    converts: tuple[tuple[str, Convert | None], ...]

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        return [row[name] if convert is None else convert(row[name]) for name, convert in self.converts]


class BulkInsert:
    """An INSERT of rows that all have a value for each of `columns`; by default for every column."""

    def __init__(self, table: Table, *columns: str, tail: str = "") -> None:
        self._table = table
        self._columns = columns or tuple(column.name for column in table.columns)
        self._tail = tail
        self._plans: dict[str, _Plan] = {}

    def __call__(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[AnyRow]:
        """Insert the rows and return what the tail's RETURNING gives, if it has one."""
        plan = self._plan(connection.dialect)
        most = MAX_VALUES // len(self._columns)
        returned: list[AnyRow] = []
        for begin in range(0, len(rows), most):
            part = rows[begin : begin + most]
            statement = f"{plan.head}{', '.join([plan.row] * len(part))}{plan.tail}"
            values = tuple(value for row in part for value in plan.values(row))
            result = connection.exec_driver_sql(statement, values)
            if result.returns_rows:
                returned += result.all()
        return returned

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

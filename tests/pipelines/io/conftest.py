"""The harness of each connector that is in the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.mysql import MySQLServer
from tests.parts.postgres import PostgresServer
from tests.pipelines.io.harnesses import HARNESSES, Harness
from tests.pipelines.io.projects import postgres_keys


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    kind = HARNESSES[request.param]
    part = request.getfixturevalue(kind.fixture) if kind.fixture else None
    return kind(tmp_path, part)


@pytest.fixture
def postgres_profile_keys(postgres_server: PostgresServer, postgres_database: str) -> dict[str, Any]:
    return postgres_keys(postgres_server, postgres_database)


@pytest.fixture
def mysql_profile_keys(mysql_server: MySQLServer) -> Iterator[dict[str, Any]]:
    database = mysql_server.create_database()
    yield mysql_server.keys(database)
    mysql_server.drop_database(database)

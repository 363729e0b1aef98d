"""The harness of each connector that is in the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.io import CONNECTORS
from tests.parts.postgres import PostgresServer
from tests.pipelines.io.harnesses import HARNESSES, Harness


@pytest.fixture(params=sorted(CONNECTORS))
def harness(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> Harness:
    kind = HARNESSES[request.param]
    part = request.getfixturevalue(kind.fixture) if kind.fixture else None
    return kind(tmp_path, postgres_server, postgres_database, part)

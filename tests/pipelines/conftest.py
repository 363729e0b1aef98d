from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.refusing_postgres import refusing_postgres


@pytest.fixture
def guarded_port() -> Iterator[int]:
    """The port of a Postgres that refuses every password."""
    with refusing_postgres() as port:
        yield port

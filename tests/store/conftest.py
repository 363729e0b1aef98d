"""Every test of the store runs on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.session import Database
from tests.parts.stores import STORES, lay_store, opened_store, sqlite_url


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        lay_store(tmp_path)
        yield sqlite_url(tmp_path)
        return
    yield request.getfixturevalue("postgres_url")


@pytest.fixture
def database(store_url: str, tmp_path: Path) -> Iterator[Database]:
    with opened_store(store_url, tmp_path) as opened:
        yield opened

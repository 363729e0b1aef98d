"""Every test of the store runs on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.session import Database
from tests.parts.stores import STORES, opened_store, sqlite_url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables made: copying it is faster than making them for every test."""
    home = tmp_path_factory.mktemp("template")
    with opened_store(sqlite_url(home), home):
        return home / "millrace.db"


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "millrace.db")
        yield sqlite_url(tmp_path)
        return
    yield request.getfixturevalue("postgres_url")


@pytest.fixture
def database(store_url: str, tmp_path: Path) -> Iterator[Database]:
    with opened_store(store_url, tmp_path) as opened:
        yield opened

"""Every test of the store runs on both databases."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.store.session import Database
from tests.parts.postgres import PostgresServer
from tests.parts.stores import STORES, opened_store, sqlite_url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables made: copying it is faster than making them for every test."""
    home = tmp_path_factory.mktemp("template")
    with opened_store(sqlite_url(home), home):
        return home / "millrace.db"


@pytest.fixture(scope="session")
def copy_of_template(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    template = postgres_server.create_database()
    with opened_store(postgres_server.url(template), tmp_path_factory.mktemp("template")):
        pass
    numbers = itertools.count(1)

    def copy() -> str:
        name = f"{template}_copy_{next(numbers)}"
        postgres_server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    return copy


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "millrace.db")
        yield sqlite_url(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = request.getfixturevalue("copy_of_template")()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def database(store_url: str, tmp_path: Path) -> Iterator[Database]:
    with opened_store(store_url, tmp_path) as opened:
        yield opened

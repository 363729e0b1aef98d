"""Fixtures that every room shares. A room's own fixtures live in its own conftest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.bigquery import BigQueryEmulator, running_bigquery
from tests.parts.gcs import GcsEmulator, running_gcs
from tests.parts.http_site import HttpSite, running_site
from tests.parts.mysql import MySQLServer, running_mysql
from tests.parts.postgres import PostgresServer, running_postgres
from tests.parts.pubsub import PubSubEmulator, running_pubsub
from tests.parts.s3 import S3Emulator, running_s3
from tests.parts.stores import opened_store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        server.forgo_durability()
        yield server


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MySQLServer]:
    with running_mysql() as server:
        yield server


@pytest.fixture(scope="session")
def store_template(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database that has our tables, to be copied."""
    name = postgres_server.create_database()
    with opened_store(postgres_server.url(name), tmp_path_factory.mktemp("template")):
        return name


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database of this test's own."""
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer, postgres_database: str) -> str:
    return postgres_server.url(postgres_database)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, store_template: str) -> Iterator[str]:
    """The address of a database of this test's own that has our tables."""
    name = postgres_server.create_database(store_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def http_site() -> Iterator[HttpSite]:
    with running_site() as site:
        yield site


@pytest.fixture(scope="session")
def pubsub() -> Iterator[PubSubEmulator]:
    with running_pubsub() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsEmulator]:
    with running_gcs() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def bigquery() -> Iterator[BigQueryEmulator]:
    with running_bigquery() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Emulator]:
    with running_s3() as emulator:
        yield emulator

"""What code for Mage's earlier versions does, and what it does with a connection by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.io.errors import ConnectorError
from pipelines.mage.databases import DuckDB, Postgres
from pipelines.mage.files import FileIO
from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.mage.profiles import ConfigFileLoader
from tests.parts.postgres import PostgresServer


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Iterator[Path]:
    with mage_names(Places(tmp_path)):
        yield tmp_path


def test_file_may_be_named_where_the_reader_is_made(root: Path) -> None:
    (root / "trips.csv").write_text("zone;fare\na;1\n")

    assert FileIO(root / "trips.csv").load(sep=";").to_dict("records") == [{"zone": "a", "fare": 1}]
    with pytest.raises(ConnectorError, match="needs filepath"):
        FileIO().load()


@pytest.fixture
def profile(postgres_server: PostgresServer) -> ConfigFileLoader:
    return ConfigFileLoader(
        config={
            "POSTGRES_HOST": postgres_server.socket_dir,
            "POSTGRES_DBNAME": "postgres",
            "POSTGRES_USER": postgres_server.user,
        }
    )


def test_column_of_numbers_and_texts_is_written_as_texts(profile: ConfigFileLoader) -> None:
    frame = pd.DataFrame({"house": [7, "7a", None], "date": ["1 May", "2 May", "3 May"]})

    with Postgres.with_config(profile) as loader:
        loader.export(frame, "public", "houses", if_exists="replace")
        found = loader.load("SELECT house, _date FROM houses ORDER BY _date")

    assert found["house"].tolist()[:2] == ["7", "7a"]
    assert found["house"].isna().tolist() == [False, False, True]


def test_connection_of_psycopg2_is_that_of_the_open_transaction(profile: ConfigFileLoader) -> None:
    with Postgres.with_config(profile) as loader:
        loader.execute("CREATE TEMPORARY TABLE fares (fare int)")
        with loader.conn.cursor() as cursor:
            cursor.execute("INSERT INTO fares VALUES (3)")

        assert loader.load("SELECT fare FROM fares")["fare"].tolist() == [3]
        loader.rollback()

    with pytest.raises(ConnectorError, match="inside of `with`"):
        _ = loader.conn


@pytest.fixture
def fares(profile: ConfigFileLoader) -> Callable[[], list[int]]:
    """Make an empty table, and return what reads it by a connection of its own."""
    with Postgres.with_config(profile) as loader:
        loader.execute("DROP TABLE IF EXISTS kept_fares; CREATE TABLE kept_fares (fare int)")
    query = "SELECT fare FROM kept_fares ORDER BY fare"
    return lambda: Postgres.with_config(profile).load(query)["fare"].tolist()


def insert(cursor: Any, fare: int) -> None:
    cursor.execute("INSERT INTO kept_fares VALUES (%s)", (fare,))


def test_commit_of_the_connection_keeps_what_was_done(
    profile: ConfigFileLoader, fares: Callable[[], list[int]]
) -> None:
    loader = Postgres.with_config(profile)
    loader.open()
    cursor = loader.conn.cursor()
    insert(cursor, 1)
    loader.conn.commit()
    insert(cursor, 2)
    loader.close()

    assert fares() == [1]


def test_rollback_of_the_connection_takes_back_what_was_done(
    profile: ConfigFileLoader, fares: Callable[[], list[int]]
) -> None:
    with Postgres.with_config(profile) as loader:
        connection = loader.conn
        insert(connection.cursor(), 1)
        connection.rollback()
        insert(connection.cursor(), 2)

    assert fares() == [2]


def test_error_after_commit_of_the_connection_takes_back_only_what_came_later(
    profile: ConfigFileLoader, fares: Callable[[], list[int]]
) -> None:
    def insert_and_fail() -> None:
        with Postgres.with_config(profile) as loader:
            cursor = loader.conn.cursor()
            insert(cursor, 1)
            loader.conn.commit()
            insert(cursor, 2)
            raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        insert_and_fail()

    assert fares() == [1]


def test_connection_as_a_context_commits_or_takes_back(
    profile: ConfigFileLoader, fares: Callable[[], list[int]]
) -> None:
    def insert_and_fail() -> None:
        with loader.conn as connection:
            insert(connection.cursor(), 2)
            raise ValueError("inner")

    loader = Postgres.with_config(profile)
    loader.open()
    with loader.conn as connection:
        insert(connection.cursor(), 1)
    with pytest.raises(ValueError, match="inner"):
        insert_and_fail()
    loader.close()

    assert fares() == [1]


def test_percent_signs_of_a_bound_value_stay_as_they_are(profile: ConfigFileLoader) -> None:
    with Postgres.with_config(profile) as loader:
        found = loader.load("SELECT %(x)s AS x, '5%%' AS y", x="50%% off %(y)s", y=1)

    assert found.to_dict("records") == [{"x": "50%% off %(y)s", "y": "5%"}]


def test_rows_of_a_query_are_exported_within_an_open_connection() -> None:
    with DuckDB.with_config(ConfigFileLoader(config={"DUCKDB_DATABASE": "w.duckdb"})) as loader:
        loader.execute("CREATE TABLE t AS SELECT 1 AS a")
        loader.export(None, "main", "copied", query_string="SELECT a + 1 AS b FROM t")

        assert loader.load("SELECT b FROM copied")["b"].tolist() == [2]

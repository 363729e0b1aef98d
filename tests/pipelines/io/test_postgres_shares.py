"""A whole table that several connections read at once is what one connection would have read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from pipelines.io import Postgres
from pipelines.io.errors import ConnectionFailed
from pipelines.io.postgres import adbc, connector, shares
from tests.parts.postgres import PostgresServer
from tests.parts.waiting import wait_until
from tests.pipelines.io.projects import postgres_profile

ROWS = 20_000


@pytest.fixture
def postgres(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> Postgres:
    """A connector to a database with a table, and a machine, that are large enough for four shares."""
    monkeypatch.setattr(connector, "_LARGE", -1)
    monkeypatch.setattr(shares, "_SHARE_BYTES", 8192)
    monkeypatch.setattr(pa, "cpu_count", lambda: 8)
    made = Postgres.from_profile(postgres_profile(tmp_path, postgres_server, postgres_database))
    made.export(pd.DataFrame({"a": range(ROWS), "b": "text"}), table_name="trips")
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries of the shares that are read, as they are read."""
    return _watched(monkeypatch, lambda: None)


def _watched(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> list[str]:
    queries: list[str] = []
    real = shares.read_table

    def read_table(settings: Any, query: str, *others: Any) -> Any:
        before()
        queries.append(query)
        return real(settings, query, *others)

    monkeypatch.setattr(shares, "read_table", read_table)
    return queries


@pytest.mark.parametrize("query", ["SELECT * FROM trips", 'select a, b from public."trips"\n'])
def test_rows_of_all_shares_are_those_of_the_table_in_their_order(
    postgres: Postgres, read: list[str], query: str
) -> None:
    loaded = postgres.load(query)

    assert len(read) == 4
    assert loaded["a"].tolist() == list(range(ROWS))
    assert set(loaded["b"]) == {"text"}


def test_each_share_has_its_part(postgres: Postgres) -> None:
    with postgres.transaction() as cursor:
        found = shares.shares_of(cursor, "SELECT a FROM trips", connector.plan_of(cursor, "TABLE trips"))
        assert found is not None
        counts = []
        for query in found.queries:
            cursor.execute(f"SELECT count(*) FROM ({query}) AS q")
            counts.append(cursor.fetchone()[0])

    assert sum(counts) == ROWS
    assert max(counts) < ROWS / 2  # not all alike: the server makes some pages ahead


def test_all_shares_see_one_moment(
    postgres: Postgres,
    postgres_server: PostgresServer,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = "DELETE FROM trips WHERE a % 3 = 0; UPDATE trips SET a = -1"
    read = _watched(monkeypatch, lambda: postgres_server.execute(changes, postgres_database))

    loaded = postgres.load("SELECT a FROM trips")

    assert len(read) == 4
    assert loaded["a"].tolist() == list(range(ROWS))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM trips WHERE a > 5",
        "SELECT count(*) FROM trips",
        "SELECT a FROM trips ORDER BY a",
        "SELECT DISTINCT a FROM trips",
        "SELECT a FROM trips LIMIT 10",
        "SELECT a FROM seen",
        "SELECT a FROM parent",
        "WITH trips AS (SELECT 1 AS a) SELECT a FROM trips",
        "SELECT a FROM trips UNION ALL SELECT a FROM trips",
        "SELECT a FROM trips WHERE a IS DISTINCT FROM parent",
        "SELECT nextval('numbers'), a FROM trips",
        "SELECT current_timestamp, a FROM trips",
        "SELECT a FROM trips -- of all of them, taken from trips",
        "SELECT a FROM other.trips\n-- FROM trips",
        "TABLE trips",
    ],
)
def test_other_queries_are_read_as_one(postgres: Postgres, read: list[str], query: str) -> None:
    postgres.execute(
        "CREATE SCHEMA other; CREATE TABLE other.trips AS SELECT 1 AS a;"
        "CREATE VIEW seen AS SELECT * FROM trips; CREATE TABLE parent (a bigint);"
        "CREATE TABLE child () INHERITS (parent); INSERT INTO child SELECT a FROM trips;"
        "ALTER TABLE trips ADD COLUMN parent bigint; CREATE SEQUENCE numbers"
    )

    assert len(postgres.load(query)) > 0
    assert read == []


def test_a_small_table_is_read_as_one(
    postgres: Postgres, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "_SHARE_BYTES", 32 << 20)

    assert len(postgres.load("SELECT * FROM trips")) == ROWS
    assert read == []


def test_where_there_is_no_room_for_more_connections_one_reads_all(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def full() -> None:
        refused.append(True)
        raise ConnectionFailed("sorry, too many clients already")

    _watched(monkeypatch, full)

    assert postgres.load("SELECT a FROM trips")["a"].tolist() == list(range(ROWS))
    assert refused


def test_who_may_read_columns_alone_reads_them(
    postgres: Postgres,
    read: list[str],
    tmp_path: Path,
    postgres_server: PostgresServer,
    postgres_database: str,
) -> None:
    role = f"reader_{postgres_database}"
    postgres.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT (a) ON trips TO {role}")
    profile = postgres_profile(tmp_path, postgres_server, postgres_database, POSTGRES_USER=role)

    loaded = Postgres.from_profile(profile).load("SELECT a FROM trips")

    assert loaded["a"].tolist() == list(range(ROWS))
    assert read  # it was tried
    postgres.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_who_waits_for_the_table_alone_is_let_in(
    postgres: Postgres,
    postgres_server: PostgresServer,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind someone who waits for our own lock, our shares would wait for ever."""
    monkeypatch.setattr(adbc, "_LOCK_TIMEOUT", "100ms")
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'trips'::regclass"
    with ThreadPoolExecutor(1) as pool:
        changing: list[Future[None]] = []

        def change() -> None:
            alter = "ALTER TABLE trips ADD COLUMN c int"
            changing.append(pool.submit(postgres_server.execute, alter, postgres_database))
            wait_until(lambda: postgres_server.fetch(waiting, postgres_database), what="someone who waits")

        first = iter([change])
        _watched(monkeypatch, lambda: [one() for one in islice(first, 1)])

        loaded = postgres.load("SELECT a FROM trips")

        changing[0].result(timeout=30)
    assert loaded["a"].tolist() == list(range(ROWS))

"""What only Postgres does: COPY, tables that others hang on, locks, and doors that stay shut."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.io import Postgres
from pipelines.io.config import ProfileError
from pipelines.io.errors import AccessRefused, ConnectionFailed, ExportRefused, QueryFailed
from pipelines.io.postgres.connecting import PostgresSettings, connect
from tests.parts.ports import free_port
from tests.parts.postgres import PostgresServer
from tests.pipelines.io.projects import postgres_profile, running_block


@pytest.fixture
def postgres(tmp_path: Path, postgres_server: PostgresServer, postgres_database: str) -> Postgres:
    return Postgres.from_profile(postgres_profile(tmp_path, postgres_server, postgres_database))


def test_types_of_new_tables_are_those_of_the_frame(postgres: Postgres) -> None:
    frame = pa.table(
        {
            "small": pa.array([1], pa.int16()),
            "whole": pa.array([1], pa.int64()),
            "real": pa.array([1.0], pa.float64()),
            "exact": pa.array([Decimal("1.5")]),
            "moment": pa.array([0], pa.timestamp("us")),
            "aware": pa.array([0], pa.timestamp("us", "UTC")),
            "facts": pa.array([{"a": [1]}]),
            "yes": [True],
            "huge": pa.array([2**64 - 1], pa.uint64()),
        }
    )

    postgres.export(frame, "lake", "types")

    found = postgres.load(
        "SELECT data_type FROM information_schema.columns WHERE table_name = :name ORDER BY ordinal_position",
        name="types",
    )
    assert found["data_type"].tolist() == [
        "smallint",
        "bigint",
        "double precision",
        "numeric",
        "timestamp without time zone",
        "timestamp with time zone",
        "jsonb",
        "boolean",
        "numeric",
    ]


def test_a_refilled_table_keeps_views_and_indexes(postgres: Postgres) -> None:
    postgres.export(pd.DataFrame({"a": [1], "b": ["x"]}), "lake", "t")
    postgres.execute("CREATE VIEW lake.v AS SELECT a FROM lake.t; CREATE INDEX kept ON lake.t (a)")

    postgres.export(pd.DataFrame({"a": [2], "b": ["y"]}), "lake", "t")

    assert postgres.load("SELECT a FROM lake.v")["a"].tolist() == [2]
    assert len(postgres.load("SELECT 1 FROM pg_indexes WHERE indexname = 'kept'")) == 1


def test_batches_are_staged_as_they_come(postgres: Postgres) -> None:
    schema = pa.schema([("n", pa.int64())])
    most = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for number in range(50):
            yield pa.record_batch([pa.array([number] * 10_000)], schema=schema)
            most = max(most, pa.total_allocated_bytes() - before)

    before = pa.total_allocated_bytes()
    with postgres.transaction() as session:
        postgres.stage(session, "staged", pa.RecordBatchReader.from_batches(schema, batches()))
        found = postgres.read(session, "SELECT count(*) AS rows, sum(n) AS sum FROM staged")

    assert found.to_dict("list") == {"rows": [500_000], "sum": [12_250_000]}
    assert most < 10 * 80_000  # bytes: a few batches, not all 50


def test_a_column_of_only_nulls_keeps_the_type_that_the_table_has(postgres: Postgres) -> None:
    postgres.export(pd.DataFrame({"a": [1], "b": [date(2024, 1, 31)]}), "lake", "t")
    postgres.execute("CREATE VIEW lake.v AS SELECT b FROM lake.t")

    postgres.export(pd.DataFrame({"a": [2], "b": [None]}), "lake", "t")

    assert postgres.load("SELECT pg_typeof(b)::text AS kind FROM lake.v")["kind"].tolist() == ["date"]


def test_a_table_of_other_columns_is_not_swapped_in_under_a_view(postgres: Postgres) -> None:
    postgres.export(pd.DataFrame({"a": [1]}), "lake", "t")
    postgres.execute("CREATE VIEW lake.v AS SELECT a FROM lake.t")

    with pytest.raises(ExportRefused, match=r"lake\.v depend"):
        postgres.export(pd.DataFrame({"b": [2]}), "lake", "t")
    assert postgres.load("SELECT * FROM lake.t").to_dict("list") == {"a": [1]}

    postgres.export(pd.DataFrame({"b": [2]}), "lake", "t", cascade_on_drop=True)
    assert postgres.load("SELECT * FROM lake.t").to_dict("list") == {"b": [2]}


def test_a_table_that_others_refer_to_is_refilled(postgres: Postgres) -> None:
    postgres.execute(
        "CREATE TABLE zones (id bigint PRIMARY KEY); CREATE TABLE trips (zone bigint REFERENCES zones)"
    )

    postgres.export(pd.DataFrame({"id": [1]}), table_name="zones")
    postgres.execute("INSERT INTO trips VALUES (1)")

    with pytest.raises(ExportRefused, match=r"public\.zones.*foreign key"):
        postgres.export(pd.DataFrame({"id": [2]}), table_name="zones")
    assert postgres.load("SELECT id FROM zones")["id"].tolist() == [1]


def test_readers_see_the_old_rows_until_a_new_table_is_whole(postgres: Postgres) -> None:
    postgres.export(pd.DataFrame({"a": [1]}), table_name="t")

    with pytest.raises(ExportRefused, match=r"0x00"):
        postgres.export(pd.DataFrame({"b": ["fine", "not \0 fine"]}), table_name="t")

    assert postgres.load("SELECT * FROM t").to_dict("list") == {"a": [1]}
    assert len(postgres.load("SELECT 1 FROM pg_class WHERE relname LIKE 'millrace_new%'")) == 0


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        (
            "count",
            ["1", "many"],
            r"cannot write to public\.t: .*integer.*\(column 'count', row 1: \"many\"\)",
        ),
        ("count", [1.0, 1.5], r"public\.t: column 'count' takes whole numbers, and row 1 holds 1\.5"),
        ("count", [1, 2**40], r"public\.t: .*1099511627776.*out of range.*column 'count', row 1"),
        (
            "count",
            [True, False],
            r"public\.t: column 'count' is integer there, and boolean in the frame \(True in row 0",
        ),
        ("name", [1, 2], r"public\.t: column 'name' is text there, and bigint in the frame \(1 in row 0\)"),
        ("name", ["a", None], r"public\.t: null value in column \"name\""),
        (
            "moment",
            pd.to_datetime(["2020-01-01"] * 2, utc=True),
            r"column 'moment' is timestamp without time zone there",
        ),
    ],
)
def test_a_wrong_value_is_named_with_table_and_column(
    postgres: Postgres, column: str, values: list[object], said: str
) -> None:
    postgres.execute("CREATE TABLE t (count integer, name text NOT NULL, moment timestamp)")
    frame = pd.DataFrame({"count": [1, 2], "name": ["a", "b"], "moment": pd.to_datetime(["2020-01-01"] * 2)})

    with pytest.raises(ExportRefused, match=said):
        postgres.export(frame.assign(**{column: values}), table_name="t", if_exists="append")

    assert len(postgres.load("SELECT * FROM t")) == 0


def test_whole_floats_fit_integer_columns_and_defaults_fill_what_a_frame_lacks(postgres: Postgres) -> None:
    postgres.execute(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, n integer, at timestamptz DEFAULT now())"
    )

    postgres.export(pd.DataFrame({"n": [1.0, np.nan, 3.0]}), table_name="t", if_exists="append")

    loaded = postgres.load("SELECT * FROM t ORDER BY id")
    assert loaded["id"].tolist() == [1, 2, 3]
    assert loaded["n"].tolist() == [1, pd.NA, 3]
    assert loaded["at"].notna().all()


def test_merge_updates_by_key_and_adds_the_rest(postgres: Postgres) -> None:
    postgres.export(
        pd.DataFrame({"id": [1, 2], "v": ["a", "b"]}), table_name="t", if_exists="merge", keys="id"
    )
    postgres.export(
        pd.DataFrame({"id": [2, 3], "v": ["B", "c"]}), table_name="t", if_exists="merge", keys="id"
    )
    postgres.export(
        pd.DataFrame({"id": [3, 4], "v": ["C", "d"]}),
        table_name="t",
        if_exists="append",
        unique_constraints=["id"],
        unique_conflict_method="IGNORE",
    )

    assert postgres.load("SELECT v FROM t ORDER BY id")["v"].tolist() == ["a", "B", "c", "d"]


@pytest.mark.parametrize(
    ("ids", "said"), [([5, 5], "id=5 is there 2 times"), ([5, None], "id=None lacks a part of its key")]
)
def test_merge_refuses_keys_that_do_not_identify(
    postgres: Postgres, ids: list[int | None], said: str
) -> None:
    postgres.export(pd.DataFrame({"id": [1], "v": ["a"]}), table_name="t")

    with pytest.raises(ExportRefused, match=said):
        postgres.export(
            pd.DataFrame({"id": pd.array(ids, dtype="Int64"), "v": ["x", "y"]}),
            table_name="t",
            if_exists="merge",
            keys="id",
        )


def test_merge_wants_keys_that_the_frame_has(postgres: Postgres) -> None:
    with pytest.raises(ExportRefused, match="needs `keys`"):
        postgres.export(pd.DataFrame({"id": [1]}), table_name="t", if_exists="merge")
    with pytest.raises(ExportRefused, match="lacks the key column 'no'"):
        postgres.export(pd.DataFrame({"id": [1]}), table_name="t", if_exists="merge", keys="no")


def test_many_first_exports_at_once_make_schema_and_tables_once(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> None:
    profile = postgres_profile(tmp_path, postgres_server, postgres_database)
    start = threading.Barrier(6)

    def export(number: int) -> None:
        with running_block(tmp_path, run_id=f"run-{number}"):
            start.wait()
            Postgres.from_profile(profile).export(
                pd.DataFrame({"n": [number]}), "fresh", "t", if_exists="append"
            )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(export, range(6)))

    assert sorted(Postgres.from_profile(profile).load("SELECT n FROM fresh.t")["n"]) == list(range(6))


def test_two_processes_with_one_effect_write_it_once(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> None:
    profile = postgres_profile(tmp_path, postgres_server, postgres_database)
    start = threading.Barrier(4)

    def export(_: int) -> None:
        with running_block(tmp_path):
            start.wait()
            Postgres.from_profile(profile).export(
                pd.DataFrame({"n": [1, 2]}), table_name="t", if_exists="append"
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(export, range(4)))

    assert len(Postgres.from_profile(profile).load("SELECT n FROM t")) == 2


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SHOW server_encoding", [["UTF8"]]),
        ("SELECT null::int AS a UNION ALL SELECT 1 ORDER BY 1", [[1], [pd.NA]]),
        ("SELECT 1 AS a, 2 AS a", [[1, 2]]),
        ("SELECT array[1, 2] AS a, '{}'::text[] AS b", [[[1, 2], []]]),
        ("CREATE TABLE q (a int); INSERT INTO q VALUES (7) RETURNING a, 1.5::numeric", [[7, Decimal("1.5")]]),
        ("WITH x AS (SELECT 1 AS a) SELECT * FROM x -- the end", [[1]]),
        ("SELECT ';' AS a, '50%' AS b;", [[";", "50%"]]),
        ("SELECT interval '2 hours' AS a", [[timedelta(hours=2)]]),
        ("SELECT interval '1 month' AS a", [["P1M"]]),
        ("SELECT 'infinity'::float8 AS a", [[float("inf")]]),
    ],
)
def test_queries_of_every_kind_give_frames(postgres: Postgres, query: str, rows: list[list[object]]) -> None:
    assert postgres.load(query).astype(object).values.tolist() == rows


def test_values_are_bound_by_name_and_never_become_sql(postgres: Postgres) -> None:
    evil = "'; DROP TABLE t; --"
    postgres.export(pd.DataFrame({"s": [evil, "b"], "n": [1, 2]}), table_name="t")

    found = postgres.load(
        "SELECT n, s::text, ':s' AS text FROM t WHERE s = :s AND n = ANY(:ns)", s=evil, ns=[1, 2]
    )

    assert found["n"].tolist() == [1]
    assert found["text"].tolist() == [":s"]
    assert postgres.execute("DELETE FROM t WHERE s = :s", s=evil) == 1
    assert len(postgres.load("SELECT * FROM t", limit=1)) == 1


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda db: db.load("SELEC 1"), "syntax error at or near"),
        (lambda db: db.load("SELECT * FROM nowhere"), 'relation "nowhere" does not exist'),
        (lambda db: db.load("SELECT 1", a=2), "no place for :a"),
        (lambda db: db.load("SELECT 'infinity'::timestamp AS moment"), "moment.*Cast the column to text"),
        (lambda db: db.load(" -- nothing"), "the query is empty"),
        (lambda db: db.load("CREATE TABLE x (a int)"), "returns no rows; use execute"),
        (lambda db: db.execute("UPDATE nowhere SET a = 1"), "nowhere"),
    ],
)
def test_a_refused_statement_says_why(
    postgres: Postgres, ask: Callable[[Postgres], object], said: str
) -> None:
    with pytest.raises(QueryFailed, match=said):
        ask(postgres)


def test_execute_is_all_or_nothing(postgres: Postgres) -> None:
    with pytest.raises(QueryFailed):
        postgres.execute("CREATE TABLE half (a int); SELECT 1 / 0")

    assert postgres.load("SELECT to_regclass('half') IS NULL AS absent")["absent"].tolist() == [True]


def test_unknown_keywords_are_refused_and_those_of_mage_are_not(postgres: Postgres) -> None:
    postgres.export(pd.DataFrame({"a": [1]}), table_name="t", verbose=True, allow_reserved_words=True)

    with pytest.raises(TypeError, match="tabel_name"):
        postgres.export(pd.DataFrame({"a": [1]}), table_name="t", tabel_name="x")
    with pytest.raises(ExportRefused, match="needs table_name"):
        postgres.export(pd.DataFrame({"a": [1]}))


def test_a_server_that_does_not_answer_is_tried_again_and_then_named() -> None:
    settings = PostgresSettings("dev", "127.0.0.1", free_port(), "db", "me", "public", 2, "s3cret-word")
    began = time.monotonic()

    with pytest.raises(ConnectionFailed) as caught:
        connect(settings, delays=(0.05, 0.1))

    assert time.monotonic() - began >= 0.15
    assert not isinstance(caught.value, AccessRefused)
    assert f"127.0.0.1:{settings.port}" in str(caught.value)
    assert "'dev'" in str(caught.value)
    assert "s3cret-word" not in str(caught.value) + repr(settings)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"POSTGRES_PORT": "hunter2"}, "io_config.yaml:5: POSTGRES_PORT must be a number"),
        ({"POSTGRES_CONNECTION_METHOD": "ssh_tunnel"}, "tunnels are not opened here"),
    ],
)
def test_a_profile_that_cannot_be_used_is_explained(
    tmp_path: Path, postgres_server: PostgresServer, keys: dict[str, str], said: str
) -> None:
    profile = postgres_profile(tmp_path, postgres_server, "db", **keys)

    with pytest.raises(ProfileError, match=said) as caught:
        Postgres.from_profile(profile)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_not_tried_again_and_never_shown(guarded_port: int) -> None:
    settings = PostgresSettings("dev", "127.0.0.1", guarded_port, "db", "me", "public", 5, "s3cret-word")

    with pytest.raises(AccessRefused, match=r"password authentication failed.*POSTGRES_PASSWORD") as caught:
        connect(settings, delays=(60, 60))

    assert "s3cret-word" not in "".join(traceback.format_exception(caught.value))


def test_an_unknown_user_is_refused_by_the_real_server(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> None:
    profile = postgres_profile(tmp_path, postgres_server, postgres_database, POSTGRES_USER="nobody")

    with pytest.raises(AccessRefused, match=r"'nobody'.*POSTGRES_USER"):
        Postgres.from_profile(profile).load("SELECT 1")


def test_a_lost_connection_is_told_apart_from_a_bad_statement(
    postgres: Postgres, postgres_server: PostgresServer, postgres_database: str
) -> None:
    with postgres as connector:
        connector.load("SELECT 1")
        postgres_server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{postgres_database}'"
        )

        with pytest.raises(ConnectionFailed, match="was lost"):
            connector.load("SELECT 1")
        assert connector.load("SELECT 2 AS a")["a"].tolist() == [2]


def test_a_failed_export_keeps_its_connection_usable(postgres: Postgres) -> None:
    with postgres as connector:
        connector.export(pd.DataFrame({"a": [1]}), table_name="t")
        with pytest.raises(ExportRefused):
            connector.export(pd.DataFrame({"a": ["x"]}), table_name="t", if_exists="append")
        connector.export(pd.DataFrame({"a": [2]}), table_name="t", if_exists="append")

    assert postgres.load("SELECT a FROM t ORDER BY 1")["a"].tolist() == [1, 2]

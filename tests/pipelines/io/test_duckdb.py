"""What only DuckDB does: one file that several processes and threads want."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.io import DuckDB
from pipelines.io.duckdb.frames import scannable
from pipelines.io.errors import ConnectionFailed, ExportRefused, QueryFailed
from pipelines.io.frames import to_arrow
from tests.pipelines.io.projects import running_block, write_profiles

# Opens the file, says so, and holds it until its input closes.
_HOLDER = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def made(root: Path, **keys: Any) -> DuckDB:
    return DuckDB.from_profile(
        write_profiles(root, default={"DUCKDB_DATABASE": "w.duckdb", **keys}).profile()
    )


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.communicate()


def test_a_file_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    with held_by_another_process(tmp_path / "w.duckdb") as holder, ThreadPoolExecutor(1) as pool:
        export = pool.submit(made(tmp_path).export, pd.DataFrame({"a": [1]}), table_name="t")
        with pytest.raises(TimeoutError):
            export.result(timeout=0.3)
        holder.communicate()
        assert export.result(timeout=30) == 1


def test_a_file_that_stays_held_is_said_so(tmp_path: Path) -> None:
    with (
        held_by_another_process(tmp_path / "w.duckdb"),
        pytest.raises(ConnectionFailed, match=r"another process holds .*w\.duckdb.*DUCKDB_LOCK_TIMEOUT"),
    ):
        made(tmp_path, DUCKDB_LOCK_TIMEOUT=0.2).load("SELECT 1")


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "w.duckdb").write_bytes(b"this is no database" * 1000)

    with pytest.raises(ConnectionFailed, match=r"cannot open .*w\.duckdb"):
        made(tmp_path).load("SELECT 1")


def test_no_call_keeps_the_file(tmp_path: Path) -> None:
    made(tmp_path).export(pd.DataFrame({"a": [1]}), table_name="t")

    with held_by_another_process(tmp_path / "w.duckdb"):
        pass


def test_threads_open_the_file_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, one of them might not find the function that reads frames."""
    both, met, real = threading.Barrier(2), [], duckdb.connect

    def connect(database: str) -> duckdb.DuckDBPyConnection:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
            met.append(database)
        return real(database)

    monkeypatch.setattr(duckdb, "connect", connect)
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda one: one.load("SELECT 1 AS a"), [made(tmp_path), made(tmp_path)]))

    assert len(loaded) == 2
    assert met == []


def test_threads_that_append_at_once_all_get_through(tmp_path: Path) -> None:
    made(tmp_path)

    def export(number: int) -> int:
        with running_block(tmp_path, run_id=f"run-{number}"):
            return DuckDB.from_profile().export(pd.DataFrame({"n": [number]}), "s", "t", if_exists="append")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(export, range(8))) == [1] * 8
    assert sorted(made(tmp_path).load("SELECT n FROM s.t")["n"]) == list(range(8))


def test_a_file_that_another_branch_just_closes_is_opened_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB refuses a file between the last use and the end of its being closed, in the same process."""
    connect, refusals = duckdb.connect, ["the database file is already attached by database 'w'"]

    def refuse_once(database: str) -> duckdb.DuckDBPyConnection:
        if refusals:
            raise duckdb.OperationalError(refusals.pop())
        return connect(database)

    monkeypatch.setattr(duckdb, "connect", refuse_once)

    assert made(tmp_path).export(pd.DataFrame({"n": [1]}), table_name="t") == 1


def test_a_database_in_memory_lasts_as_long_as_its_connector(tmp_path: Path) -> None:
    database = made(tmp_path, DUCKDB_DATABASE=":memory:")
    database.export(pd.DataFrame({"a": [1]}), table_name="t")

    assert database.load("SELECT a FROM t")["a"].tolist() == [1]
    database.close()


def test_merge_updates_by_key_and_adds_the_rest(tmp_path: Path) -> None:
    database = made(tmp_path)
    for values in ({"id": [1, 2], "v": ["a", "b"]}, {"id": [2, 3], "v": ["B", "c"]}):
        database.export(pd.DataFrame(values), table_name="t", if_exists="merge", keys=["id"])

    assert database.load("SELECT v FROM t ORDER BY id")["v"].tolist() == ["a", "B", "c"]
    with pytest.raises(ExportRefused, match="id='3' is there 2 times"):
        database.export(
            pd.DataFrame({"id": [3, 3], "v": ["x", "y"]}), table_name="t", if_exists="merge", keys="id"
        )


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"n": ["many"]}), r"main\.t: .*'many'.*column n"),
        (pd.DataFrame({"n": [1.5]}), r"main\.t: column 'n' takes whole numbers, and row 0 holds 1\.5"),
        (pd.DataFrame({"n": [True]}), r"main\.t: column 'n' is BIGINT there, and BOOLEAN in the frame"),
    ],
)
def test_a_wrong_value_is_named_with_table_and_column(tmp_path: Path, frame: pd.DataFrame, said: str) -> None:
    database = made(tmp_path)
    database.export(pd.DataFrame({"n": [1]}), table_name="t")

    with pytest.raises(ExportRefused, match=said):
        database.export(frame, table_name="t", if_exists="append")
    assert database.load("SELECT n FROM t")["n"].tolist() == [1]


def test_digits_of_decimals_are_not_rounded_away(tmp_path: Path) -> None:
    database = made(tmp_path)
    database.export(pd.DataFrame({"m": [Decimal("1.5")]}), table_name="t")

    with pytest.raises(ExportRefused, match="digits would be lost"):
        database.export(pd.DataFrame({"m": [Decimal("1.55")]}), table_name="t", if_exists="append")


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT sum(1) AS a", [[1]]),
        ("SELECT [1, 2] AS a, {'x': 1} AS b", [[[1, 2], {"x": 1}]]),
        ("CREATE TABLE q (a int); INSERT INTO q VALUES (7) RETURNING a", [[7]]),
        ("SELECT 1 AS a, 2 AS a -- the end", [[1, 2]]),
        ("SELECT interval '2 hours' AS a", [[timedelta(hours=2)]]),
    ],
)
def test_queries_of_every_kind_give_frames(tmp_path: Path, query: str, rows: list[list[object]]) -> None:
    assert made(tmp_path).load(query).astype(object).values.tolist() == rows


def test_values_are_bound_by_name(tmp_path: Path) -> None:
    database = made(tmp_path)
    database.export(pa.table({"s": ["a", "b'; --"]}), table_name="t")

    assert len(database.load("SELECT s FROM t WHERE s = :s", s="b'; --")) == 1
    assert database.execute("DELETE FROM t WHERE s = :s; SELECT now() FROM t", s="a") == 1
    with pytest.raises(QueryFailed, match="no place for :x"):
        database.load("SELECT 1", x=1)


def test_a_refused_statement_says_why_and_changes_nothing(tmp_path: Path) -> None:
    database = made(tmp_path)

    with pytest.raises(QueryFailed, match="nowhere"):
        database.execute("CREATE TABLE half (a int); SELECT * FROM nowhere")
    with pytest.raises(QueryFailed, match="half"):
        database.load("SELECT * FROM half")


PLAIN = pd.DataFrame(
    {
        **{kind: np.array([1, 0, 3], kind) for kind in ("int8", "uint16", "int64", "uint64", "bool")},
        "real": [1.5, np.nan, float("inf")],
        "short": np.array([1.5, np.nan, -0.0], "float32"),
        "whole": pd.array([1, None, 3], dtype="Int64"),
        "small": pd.array([1, None, 3], dtype="UInt8"),
        "maybe_real": pd.array([1.5, None, 3], dtype="Float64"),
        "maybe": pd.array([True, None, False], dtype="boolean"),
        "text": pd.Series(["a", None, "ü"], dtype="str"),
        **{
            f"moment_{unit}": pd.to_datetime(["2020-01-01", None, "1969-07-20"]).astype(f"datetime64[{unit}]")
            for unit in ("s", "ms", "us", "ns")
        },
        "somewhere": pd.to_datetime(["2020-01-01", None, "2020-07-01"]).tz_localize("Europe/Berlin"),
        "span": pd.to_timedelta(["1s", None, "-2h"]),
    }
)


def test_a_frame_that_is_read_where_it_lies_means_what_it_means_in_arrow() -> None:
    def read(data: Any) -> Any:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("frame", data)
            return connection.execute("DESCRIBE frame").fetchall(), connection.execute(
                "SELECT columns(*)::varchar FROM frame"
            ).fetchall()

    assert scannable(PLAIN) is PLAIN
    assert read(PLAIN) == read(to_arrow(PLAIN))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [{"b": 1}]}),
        pd.DataFrame({"a": pd.Categorical(["x"])}),
        pd.DataFrame({"a": pd.Series([], dtype="int64")}),
        pd.DataFrame({0: [1]}),
    ],
)
def test_a_frame_that_would_have_to_be_guessed_at_goes_by_arrow(frame: pd.DataFrame) -> None:
    assert isinstance(scannable(frame), pa.Table)

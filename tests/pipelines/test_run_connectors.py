"""A run of Python and SQL blocks with real connectors: inputs, tables, rows and effects in one walk."""

from __future__ import annotations

import socket
import textwrap
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pipelines.model import Block, BlockType
from tests.pipelines.running import Bench, Listener, python

LOAD = """
import pandas as pd
from pipelines import data_loader

@data_loader
def load(**kwargs):
    return pd.DataFrame({"zone": ["a", "b", "a"], "fare": [1.0, 2.0, 3.0]})
"""

EXPORT = """
from pipelines import data_exporter
from pipelines.io import DuckDB, Files

@data_exporter
def export(data, **kwargs):
    with DuckDB.from_profile("default") as warehouse:
        warehouse.export(data, "main", "fares", if_exists="append")
    Files.from_profile("default").export(data, "out/fares.parquet")
"""


def sql(name: str, source: str, *upstream: str, **configuration: object) -> tuple[Block, str]:
    settings = {"data_provider": "duckdb", "data_provider_profile": "default", **configuration}
    return Block(name, BlockType.TRANSFORMER, "sql", f"transformers/{name}.sql", upstream, settings), source


def bench_with_profile(root: Path) -> Bench:
    (root / "io_config.yaml").write_text("default:\n  DUCKDB_DATABASE: warehouse.duckdb\n  FILES_ROOT: .\n")
    return Bench(root)


def rows_of(root: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(root / "warehouse.duckdb")) as warehouse:
        return warehouse.execute(query).fetchall()


def test_a_run_mixes_python_and_sql_blocks(tmp_path: Path) -> None:
    bench = bench_with_profile(tmp_path)
    query = "SELECT zone, sum(fare) AS fare FROM {{ df_1 }} GROUP BY zone ORDER BY zone"

    result = bench.run(
        python("load", LOAD),
        sql("sums", query, "load", use_raw_sql=True),
        python("export", EXPORT, "sums"),
    )

    assert result.state == "succeeded", result.error
    assert rows_of(tmp_path, "SELECT * FROM main.fares") == [("a", 4.0), ("b", 2.0)]
    assert len(pd.read_parquet(tmp_path / "out" / "fares.parquet")) == 2
    assert bench.listener.report("sums").rows == 2


def test_a_block_that_ran_before_its_report_was_lost_writes_once(tmp_path: Path) -> None:
    bench = bench_with_profile(tmp_path)
    blocks = (python("load", LOAD), python("export", EXPORT, "load"))

    bench.run(*blocks)
    progress = {"load": bench.listener.progress()["load"]}
    bench.listener = Listener()
    again = bench.run(*blocks, progress=progress)

    assert again.state == "succeeded", again.error
    assert rows_of(tmp_path, "SELECT count(*) FROM main.fares") == [(3,)]


def loading(root: Path, *lines: str, environ: Mapping[str, str] | None = None) -> Bench:
    """Run a Python and a SQL block on a profile of Postgres with these keys."""
    (root / "io_config.yaml").write_text("\n  ".join(["default:", *lines]) + "\n")
    bench = Bench(root, environ=environ or {})
    source = """
        from pipelines import data_loader
        from pipelines.io import Postgres

        @data_loader
        def load(**kwargs):
            return Postgres.from_profile("default").load("SELECT 1")
        """
    bench.run(
        python("load", textwrap.dedent(source)),
        sql("query", "SELECT 1", data_provider="postgres", use_raw_sql=True),
    )
    return bench


def all_that_is_told(bench: Bench) -> str:
    errors = [report.error for report in bench.listener.reports]
    return "\n".join([*map(str, errors), *(text for _, _, text in bench.listener.lines)])


def test_a_missing_key_of_the_profile_fails_the_block_with_where_to_add_it(tmp_path: Path) -> None:
    bench = loading(tmp_path, "POSTGRES_HOST: db", "POSTGRES_USER: me")

    for block in ("load", "query"):
        error = bench.listener.report(block).error or ""
        assert "profile 'default' in io_config.yaml:1 lacks POSTGRES_DBNAME" in error


def test_a_wrong_password_is_in_no_error_and_in_no_log(tmp_path: Path, guarded_port: int) -> None:
    bench = loading(
        tmp_path,
        "POSTGRES_HOST: 127.0.0.1",
        f"POSTGRES_PORT: {guarded_port}",
        "POSTGRES_DBNAME: db",
        "POSTGRES_USER: me",
        "POSTGRES_PASSWORD: \"{{ secret('warehouse') }}\"",
        environ={"MILLRACE_SECRET_WAREHOUSE": "s3cret-word"},
    )

    for block in ("load", "query"):
        assert "password authentication failed" in (bench.listener.report(block).error or "")
    assert "s3cret-word" not in all_that_is_told(bench)


def test_a_database_that_does_not_answer_is_named_after_several_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    tries: list[object] = []
    connecting = "pipelines.io.postgres.connecting"
    monkeypatch.setattr(f"{connecting}.time.sleep", tries.append)

    bench = loading(
        tmp_path,
        "POSTGRES_HOST: 127.0.0.1",
        f"POSTGRES_PORT: {port}",
        "POSTGRES_DBNAME: db",
        "POSTGRES_USER: me",
        "POSTGRES_PASSWORD: s3cret-word",
    )

    for block in ("load", "query"):
        error = bench.listener.report(block).error or ""
        assert f"no connection to Postgres at 127.0.0.1:{port} (profile 'default'" in error
    assert len(tries) == 8
    assert "s3cret-word" not in all_that_is_told(bench)


def test_an_export_of_the_wrong_type_names_table_and_column_and_leaves_the_table(tmp_path: Path) -> None:
    bench = bench_with_profile(tmp_path)
    source = """
        import pandas as pd
        from pipelines import data_exporter
        from pipelines.io import DuckDB

        @data_exporter
        def export(**kwargs):
            with DuckDB.from_profile() as warehouse:
                warehouse.export(pd.DataFrame({"fare": [1, 2]}), table_name="fares")
                warehouse.export(pd.DataFrame({"fare": ["three"]}), table_name="fares", if_exists="append")
        """

    result = bench.run(python("export", textwrap.dedent(source)))

    assert result.state == "failed"
    assert "cannot write to main.fares" in (result.error or "")
    assert "column fare" in (result.error or "")
    assert "'three'" in (result.error or "")
    assert rows_of(tmp_path, "SELECT fare FROM fares") == [(1,), (2,)]

"""A run of Python and SQL blocks with real connectors: inputs, tables, rows and effects in one walk."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

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

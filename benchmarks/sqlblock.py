"""A SQL block on DuckDB over a frame from upstream, against the same query in DuckDB alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd

from benchmarks.measure import Row
from benchmarks.taxi import ROWS, in_turn, profile_of, taxi_frame
from pipelines.blocks.sql import run_sql
from pipelines.context import BlockContext, EffectCounter, current_block
from pipelines.io.config import Profiles
from pipelines.model import Block, BlockType, Pipeline
from pipelines.secrets import Secrets

QUERY = """\
SELECT pu_location_id, date_trunc('day', lpep_pickup_datetime) AS day, count(*) AS trips,
       sum(total_amount) AS paid, median(trip_distance) AS middle
FROM {trips} WHERE passenger_count > 0 GROUP BY ALL ORDER BY ALL
"""


def measure(folder: Path) -> Iterator[Row]:
    frame = taxi_frame()
    alone = str(folder / "alone.duckdb")
    profile_of(folder, {"DUCKDB_DATABASE": str(folder / "block.duckdb")})
    runs = iter(range(1_000))

    def ours() -> None:
        _run_block(folder, f"run-{next(runs)}", frame)

    def theirs() -> None:
        with duckdb.connect(alone) as connection:
            connection.register("trips", frame)
            connection.execute(f"CREATE OR REPLACE TABLE days AS {QUERY.format(trips='trips')}")
            connection.execute("SELECT * FROM days").df()

    compared = in_turn(ours, theirs, rounds=11)
    yield Row(
        "",
        f"DuckDB SQL block over {ROWS:,} taxi rows",
        f"{compared.ours * 1000:.0f} ms",
        f"plain duckdb, the same query into a table and read back {compared.theirs * 1000:.0f} ms",
        f"≤ 1.1 × duckdb {compared.times}",
        compared.ratio <= 1.1,
    )


def _run_block(root: Path, run_id: str, frame: pd.DataFrame) -> None:
    given = {"data_provider": "duckdb", "data_provider_table": "days", "export_write_policy": "replace"}
    load = Block("load", BlockType.DATA_LOADER, "python", "load.py")
    block = Block("days", BlockType.TRANSFORMER, "sql", "days.sql", ("load",), given)
    after = Block("after", BlockType.DATA_EXPORTER, "python", "after.py", ("days",))
    context = BlockContext(
        run_id=run_id,
        project="bench",
        root=root,
        pipeline=Pipeline("days", "m.yaml", (load, block, after)),
        block=block,
        attempt=1,
        keywords={"env": "prod"},
        upstream=block.upstream,
        source=QUERY.format(trips="{{ df_1 }}"),
        profiles=Profiles(root, environ={}, secrets=Secrets(None, {})),
        logger=logging.getLogger("block.days"),
        effects=EffectCounter(run_id, block.name),
    )
    token = current_block.set(context)
    try:
        run_sql(context, [frame])
    finally:
        current_block.reset(token)

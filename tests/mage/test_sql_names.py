"""SQL blocks that Mage's editor wrote find columns under the names that Mage gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.model import Block, BlockType
from tests.parts.postgres import PostgresServer
from tests.pipelines.running import Bench, python

LOAD = """
import pandas as pd

@data_loader
def load():
    return pd.DataFrame({"Id": [1], "Order Date": ["2024-01-01"], "user": ["ann"], "Status": ["new"]})
"""


def ran(root: Path, provider: str, query: str, *, is_of_mage: bool) -> Bench:
    bench = Bench(root)
    configuration = {"data_provider": provider, "use_raw_sql": True}
    block = Block(
        "q",
        BlockType.TRANSFORMER,
        "sql",
        "transformers/q.sql",
        ("load",),
        configuration,
        is_of_mage=is_of_mage,
    )
    result = bench.run(python("load", LOAD), (block, query))
    assert result.state == "succeeded", result.error
    return bench


@pytest.mark.parametrize("provider", ["duckdb", "postgres"])
def test_names_are_cleaned_as_mage_cleans_them(
    tmp_path: Path, provider: str, postgres_server: PostgresServer
) -> None:
    (tmp_path / "io_config.yaml").write_text(
        f"default:\n  DUCKDB_DATABASE: w.duckdb\n  POSTGRES_HOST: {postgres_server.socket_dir}\n"
        f"  POSTGRES_DBNAME: postgres\n  POSTGRES_USER: {postgres_server.user}\n"
    )

    bench = ran(tmp_path, provider, "SELECT id, order_date, _user, _status FROM {{ df_1 }}", is_of_mage=True)

    (frame,) = bench.outputs("q")
    assert frame.to_dict("records") == [
        {"id": 1, "order_date": "2024-01-01", "_user": "ann", "_status": "new"}
    ]


def test_names_stay_in_blocks_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "io_config.yaml").write_text("default:\n  DUCKDB_DATABASE: w.duckdb\n")

    bench = ran(tmp_path, "duckdb", 'SELECT "Order Date", "user" FROM {{ df_1 }}', is_of_mage=False)

    (frame,) = bench.outputs("q")
    assert list(frame.columns) == ["Order Date", "user"]

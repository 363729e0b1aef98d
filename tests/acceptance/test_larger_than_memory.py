"""CSV that would not fit the memory allowed, through load, transform, Postgres and Parquet, by real workers.

`make bench` does the same with ten times as much.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.parts.postgres import PostgresServer
from tests.parts.projects import BlockFile, write_pipeline, write_project
from tests.parts.service import run_millrace

pytestmark = pytest.mark.acceptance

CSV_BYTES = 200_000_000
MOST_MIB = 400

LOAD = """
    from pipelines import data_loader
    from pipelines.io import Files

    @data_loader
    def load(*args, **kwargs):
        return Files.from_profile("default").stream(kwargs["path"])
    """
PRICE = """
    from pipelines import transformer

    @transformer(stream=True)
    def price(trips, *args, **kwargs):
        trips["per_mile"] = trips["total"] / trips["miles"].where(trips["miles"] > 0)
        return trips
    """
TO_POSTGRES = """
    from pipelines import data_exporter
    from pipelines.io import Postgres

    @data_exporter
    def export(trips, *args, **kwargs):
        Postgres.from_profile("default").export(trips, "public", "trips")
    """
TO_PARQUET = """
    from pipelines import data_exporter
    from pipelines.io import Files

    @data_exporter
    def export(trips, *args, **kwargs):
        Files.from_profile("default").export(trips, kwargs["target"])
    """
# What the kernel calls the high-water mark: no moment is missed, as with samples.
PEAK = """
    from pathlib import Path
    from pipelines import custom

    @custom
    def peak(*args, **kwargs):
        [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in one]
        Path(kwargs["peak"]).write_text(line.split()[1])
    """


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc tells how much memory was used")
def test_csv_passes_in_bounded_memory(
    tmp_path: Path, postgres_server: PostgresServer, postgres_database: str
) -> None:
    source, target, peak = tmp_path / "trips.csv", tmp_path / "trips.parquet", tmp_path / "peak"
    rows = write_trips(source)
    project = write_project(
        tmp_path / "project", files={"io_config.yaml": settings(postgres_server, postgres_database)}
    )
    write_pipeline(
        project,
        "trips",
        [
            BlockFile("load", LOAD, "data_loader"),
            BlockFile("price", PRICE, "transformer", ["load"]),
            BlockFile("to_postgres", TO_POSTGRES, "data_exporter", ["price"]),
            BlockFile("to_parquet", TO_PARQUET, "data_exporter", ["price"]),
            BlockFile("peak", PEAK, "custom", ["to_postgres", "to_parquet"]),
        ],
        variables={"path": str(source), "target": str(target), "peak": str(peak)},
    )

    done = run_millrace("run", "trips", "--json", cwd=project, seconds=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert {block["name"]: block["rows"] for block in json.loads(done.stdout)["blocks"]} == {
        **dict.fromkeys(("load", "price", "to_postgres", "to_parquet"), rows),
        "peak": None,
    }
    assert postgres_server.fetch("SELECT count(*), count(per_mile) FROM trips", postgres_database) == [
        (rows, rows)
    ]
    assert pq.read_metadata(target).num_rows == rows
    assert int(peak.read_text()) / 1024 < MOST_MIB


def write_trips(path: Path) -> int:
    """Write trips until the file is large enough, and return how many there are."""
    rows = 100_000
    random = np.random.default_rng(20)
    pickup = pd.Timestamp("2020-10-01") + pd.to_timedelta(random.integers(0, 92 * 86400, rows), unit="s")
    trips = pd.DataFrame(
        {
            "vendor": random.integers(1, 3, rows),
            "pickup": pickup,
            "dropoff": pickup + pd.to_timedelta(random.integers(60, 7200, rows), unit="s"),
            "flag": np.where(random.random(rows) > 0.01, "N", "Y"),
            "miles": random.integers(1, 3000, rows) / 100,
            **{
                name: random.integers(0, 8000, rows) / 100
                for name in ("fare", "tax", "tip", "tolls", "total")
            },
        }
    )
    table = pa.Table.from_pandas(trips, preserve_index=False)
    written = 0
    with path.open("wb") as file:
        while file.tell() < CSV_BYTES:
            pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(include_header=written == 0))
            written += rows
    return written


def settings(server: PostgresServer, database: str) -> str:
    profile = {
        "POSTGRES_HOST": server.socket_dir,
        "POSTGRES_DBNAME": database,
        "POSTGRES_USER": server.user,
    }
    return json.dumps({"default": profile})  # JSON is YAML

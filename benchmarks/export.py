"""Exporting 1,000,000 taxi-shaped rows to Postgres, against psql's \\copy of a ready file."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
import pyarrow.csv

from benchmarks.measure import Row, median
from pipelines.io import Postgres
from pipelines.io.config import Profile, Profiles
from pipelines.secrets import Secrets
from tests.parts.postgres import PostgresServer

ROWS = 1_000_000
ROUNDS = 3


def taxi_frame(rows: int = ROWS) -> pd.DataFrame:
    """Return trips with the columns and types of the green taxi files, seeded."""
    random = np.random.default_rng(20)
    pickup = pd.Timestamp("2020-10-01") + pd.to_timedelta(random.integers(0, 92 * 86400, rows), unit="s")
    known = random.random(rows) > 0.3

    def sometimes(values: np.ndarray) -> pd.Series:
        return pd.Series(values).where(known).astype("Int64")

    money = {
        name: random.integers(0, 8000, rows) / 100
        for name in ("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "total_amount")
    }
    return pd.DataFrame(
        {
            "vendor_id": sometimes(random.integers(1, 3, rows)),
            "lpep_pickup_datetime": pickup,
            "lpep_dropoff_datetime": pickup + pd.to_timedelta(random.integers(60, 7200, rows), unit="s"),
            "store_and_fwd_flag": pd.Series(np.where(random.random(rows) > 0.01, "N", "Y")),
            "ratecode_id": sometimes(random.integers(1, 6, rows)),
            "pu_location_id": random.integers(1, 266, rows),
            "do_location_id": random.integers(1, 266, rows),
            "passenger_count": sometimes(random.integers(0, 7, rows)),
            "trip_distance": random.integers(0, 3000, rows) / 100,
            **money,
            "ehail_fee": pd.Series(np.full(rows, np.nan)),
            "improvement_surcharge": np.full(rows, 0.3),
            "payment_type": sometimes(random.integers(1, 5, rows)),
            "trip_type": sometimes(random.integers(1, 3, rows)),
            "congestion_surcharge": random.integers(0, 2, rows) * 2.75,
        }
    )


def measure(server: PostgresServer, folder: Path) -> Row:
    database = server.create_database()
    frame = taxi_frame()
    ready = folder / "taxi.csv"
    pyarrow.csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), ready)
    connector = Postgres.from_profile(_profile(server, database, folder))
    connector.export(frame.head(10), "public", "trips", if_exists="replace")
    _run(server, database, "CREATE TABLE bare (LIKE trips)")

    ours, theirs = [], []
    for _ in range(ROUNDS):  # in turn, so that both meet the same machine
        ours.append(_timed(lambda: connector.export(frame, "public", "trips", if_exists="replace")))
        theirs.append(_timed(lambda: _psql(server, database, ready)))
    connector.close()
    ratio = median(ours) / median(theirs)
    return Row(
        "Postgres",
        f"export of {ROWS:,} × {len(frame.columns)} taxi rows",
        f"{median(ours):.2f} s",
        f"psql \\copy from a ready file {median(theirs):.2f} s",
        f"≤ 1.5 × psql ({ratio:.2f} ×)",
        ratio <= 1.5,
    )


def _profile(server: PostgresServer, database: str, folder: Path) -> Profile:
    settings = {
        "POSTGRES_HOST": server.socket_dir,
        "POSTGRES_DBNAME": database,
        "POSTGRES_USER": server.user,
    }
    (folder / "io_config.yaml").write_text(json.dumps({"default": settings}))  # JSON is YAML
    return Profiles(folder, environ={}, secrets=Secrets(None, {})).profile("default")


def _psql(server: PostgresServer, database: str, ready: Path) -> None:
    command = f"\\copy bare FROM '{ready}' WITH (FORMAT csv, HEADER true)"
    _run(server, database, "TRUNCATE bare")
    subprocess.run(
        ["psql", "-qX", "-h", server.socket_dir, "-U", server.user, "-d", database, "-c", command], check=True
    )


def _run(server: PostgresServer, database: str, statement: str) -> None:
    connection = psycopg2.connect(host=server.socket_dir, user=server.user, dbname=database)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def _timed(action: object) -> float:
    began = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - began

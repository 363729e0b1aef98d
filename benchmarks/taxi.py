"""Trips as the benchmarks of data move them, and how two ways of moving them are compared."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg2

from benchmarks.measure import median
from pipelines.io.config import Profile, Profiles
from pipelines.secrets import Secrets
from tests.parts.postgres import PostgresServer

ROWS = 1_000_000
ROUNDS = 5


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


@dataclass(frozen=True)
class Compared:
    """Seconds of two ways to do a thing, and how many times the first took the second's time."""

    ours: float
    theirs: float
    ratio: float

    @property
    def times(self) -> str:
        return f"({self.ratio:.2f} ×)"


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> Compared:
    """Do both in pairs, each first in turn, after one of each to warm up.

    The ratio is the median of the pairs: what disturbs the machine for a while disturbs both of a pair.
    """
    ours()
    theirs()
    pairs = []
    for number in range(rounds):
        if number % 2:
            second = timed(theirs)
            pairs.append((timed(ours), second))
        else:
            pairs.append((timed(ours), timed(theirs)))
    return Compared(
        median([ours for ours, _ in pairs]),
        median([theirs for _, theirs in pairs]),
        median([ours / theirs for ours, theirs in pairs]),
    )


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def profile_of(folder: Path, settings: Mapping[str, Any]) -> Profile:
    """Return a profile of these settings; its file lies in the folder."""
    (folder / "io_config.yaml").write_text(json.dumps({"default": dict(settings)}))  # JSON is YAML
    return Profiles(folder, environ={}, secrets=Secrets(None, {})).profile("default")


@dataclass(frozen=True)
class Database:
    """One database of the benchmark's server."""

    server: PostgresServer
    name: str

    @property
    def settings(self) -> dict[str, str]:
        return {
            "POSTGRES_HOST": self.server.socket_dir,
            "POSTGRES_DBNAME": self.name,
            "POSTGRES_USER": self.server.user,
        }

    def run(self, statement: str) -> None:
        connection = psycopg2.connect(host=self.server.socket_dir, user=self.server.user, dbname=self.name)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    def psql(self, command: str) -> None:
        place = ["-h", self.server.socket_dir, "-U", self.server.user, "-d", self.name]
        subprocess.run(["psql", "-qX", *place, "-c", command], check=True)

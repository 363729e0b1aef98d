"""1,000,000 taxi-shaped rows to Postgres and back, against psql's \\copy and against pandas."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import sqlalchemy

from benchmarks.measure import Row
from benchmarks.taxi import ROWS, Database, in_turn, profile_of, taxi_frame, timed
from pipelines.io import Postgres
from tests.parts.postgres import PostgresServer

TO_SQL_ROWS = 50_000  # of them, and the time is scaled: all would take a minute


def measure(server: PostgresServer, folder: Path) -> Iterator[Row]:
    database = Database(server, server.create_database())
    frame = taxi_frame()
    connector = Postgres.from_profile(profile_of(folder, database.settings))
    yield from _exported(database, connector, frame, folder)
    yield _loaded(database, connector)
    connector.close()


def _exported(database: Database, connector: Postgres, frame: pd.DataFrame, folder: Path) -> Iterator[Row]:
    ready = folder / "taxi.csv"
    pyarrow.csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), ready)
    connector.export(frame.head(10), "public", "trips", if_exists="replace")
    database.run("CREATE TABLE bare (LIKE trips)")

    def ours() -> None:
        connector.export(frame, "public", "trips", if_exists="replace")

    def psql() -> None:
        database.run("TRUNCATE bare")
        database.psql(f"\\copy bare FROM '{ready}' WITH (FORMAT csv, HEADER true)")

    against_psql = in_turn(ours, psql)
    what = f"export of {ROWS:,} × {len(frame.columns)} taxi rows"
    yield Row(
        "Postgres",
        what,
        f"{against_psql.ours:.2f} s",
        f"psql \\copy from a ready file {against_psql.theirs:.2f} s",
        f"≤ 1.0 × psql {against_psql.times}",
        against_psql.ratio <= 1.0,
    )
    yield _against_pandas(database, frame, what, against_psql.ours)


def _against_pandas(database: Database, frame: pd.DataFrame, what: str, seconds: float) -> Row:
    engine = sqlalchemy.create_engine(database.server.url(database.name))
    part = frame.head(TO_SQL_ROWS)
    pandas = timed(lambda: part.to_sql("by_pandas", engine, index=False)) * len(frame) / len(part)
    engine.dispose()
    return Row(
        "Postgres",
        f"{what}, against pandas",
        f"{seconds:.2f} s",
        f"DataFrame.to_sql {pandas:.0f} s (scaled from {TO_SQL_ROWS:,} rows)",
        f"≥ 30 × faster ({pandas / seconds:.0f} ×)",
        pandas / seconds >= 30,
    )


def _loaded(database: Database, connector: Postgres) -> Row:
    database.run("ANALYZE trips")  # as the server does by itself, a while after an export
    compared = in_turn(
        lambda: connector.load("SELECT * FROM trips"),
        lambda: database.psql("\\copy trips TO '/dev/null' WITH (FORMAT csv)"),
    )
    return Row(
        "Postgres",
        f"load of {ROWS:,} taxi rows into pandas",
        f"{compared.ours:.2f} s",
        f"psql \\copy to /dev/null {compared.theirs:.2f} s",
        f"≤ 1.0 × psql {compared.times}",
        compared.ratio <= 1.0,
    )

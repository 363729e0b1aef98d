"""The pipelines of the zoomcamp's second week, as Mage's users write them, on real Postgres and emulators."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pipelines.model import Severity
from service.checks import problems_of
from service.store.values import Run, RunState
from tests.mage.conftest import Zoomcamp
from tests.parts.bigquery import PROJECT, BigQueryEmulator
from tests.parts.example import trip_source
from tests.parts.gcs import GcsEmulator

DATA = Path(__file__).parents[3] / "shared" / "data"
TRIPS = 300


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    with trip_source(rows=TRIPS) as url:
        yield url


def assert_succeeded(zoomcamp: Zoomcamp, run: Run) -> None:
    assert run.state is RunState.SUCCEEDED, f"{run.error}\n{zoomcamp.bench.log(run)}"


def rows_of(run: Run, block: str) -> int | None:
    return next(one.rows for one in run.blocks if one.name == block)


def test_project_is_read_without_a_word(zoomcamp: Zoomcamp) -> None:
    project = zoomcamp.bench.runtime.projects.default

    problems = [problem for problem in problems_of(project) if problem.severity is not Severity.INFO]

    assert [str(problem) for problem in problems] == []
    assert len(project.pipelines) == 7


def test_simple_pipeline(zoomcamp: Zoomcamp) -> None:
    run = zoomcamp.bench.run("example_pipeline")

    assert_succeeded(zoomcamp, run)
    cleaned = pd.read_csv(zoomcamp.bench.root / "titanic_clean.csv")
    assert cleaned["Age"].tolist() == [22, 26, 26]


def test_profile_of_postgres(zoomcamp: Zoomcamp) -> None:
    run = zoomcamp.bench.run("test_config")

    assert_succeeded(zoomcamp, run)
    assert rows_of(run, "test_postgres") == 1


def test_api_to_postgres(zoomcamp: Zoomcamp, source: str) -> None:
    run = zoomcamp.bench.run("api_to_postgres", source=source)

    assert_succeeded(zoomcamp, run)
    kept = rows_of(run, "transform_taxi_data")
    assert 0 < (kept or 0) < TRIPS
    # Names are cleaned as Mage cleans them.
    assert zoomcamp.query("SELECT count(vendorid), min(passenger_count) FROM ny_taxi.yellow_cab_data") == [
        (kept, 1)
    ]
    assert rows_of(run, "load_taxi_data") == 10


def test_api_to_gcs(zoomcamp: Zoomcamp, source: str, gcs: GcsEmulator) -> None:
    run = zoomcamp.bench.run("api_to_gcs", source=source)

    assert_succeeded(zoomcamp, run)
    names = gcs.names(zoomcamp.bucket)
    assert "nyc_taxi_data.parquet" in names
    partitions = {name.split("/")[1] for name in names if "tpep_pickup_date=" in name}
    days = {name.split("/")[1] for name in names if name.startswith("by_day/")}
    assert {f"tpep_pickup_date={day}" for day in days} == partitions
    assert len(days) > 1
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ


def test_parameterised_pipeline_names_its_object_by_the_date(
    zoomcamp: Zoomcamp, source: str, gcs: GcsEmulator
) -> None:
    run = zoomcamp.bench.run(
        "load_to_gcp_parameterized", execution_date=datetime(2024, 1, 5, 7, tzinfo=UTC), source=source
    )

    assert_succeeded(zoomcamp, run)
    assert "2024/01/05/daily_trips.parquet" in gcs.names(zoomcamp.bucket)


def test_gcs_to_bigquery(zoomcamp: Zoomcamp, source: str, bigquery: BigQueryEmulator) -> None:
    loaded = zoomcamp.bench.run("api_to_gcs", source=source)
    run = zoomcamp.bench.run("gcs_to_bigquery", project=PROJECT)

    assert_succeeded(zoomcamp, run)
    kept = rows_of(loaded, "transform_taxi_data")
    client = bigquery.client()
    for dataset in ("ny_taxi", "ny_taxi_class"):
        found = client.query_and_wait(f"SELECT count(vendorid) AS n FROM {dataset}.yellow_cab_data")
        assert [row.n for row in found] == [kept]
    client.close()


@pytest.mark.skipif(not (DATA / "taxi").is_dir(), reason=f"the real trips are not there: {DATA / 'taxi'}")
def test_homework_on_the_real_quarter(zoomcamp: Zoomcamp, gcs: GcsEmulator) -> None:
    with trip_source(DATA / "taxi") as url:
        run = zoomcamp.bench.run("green_taxi_etl", source=url)

    assert_succeeded(zoomcamp, run)
    assert rows_of(run, "load_green_taxi") == 266_855
    assert rows_of(run, "transform_green_taxi") == 139_370
    assert zoomcamp.query("SELECT count(*), count(DISTINCT lpep_pickup_date) FROM mage.green_taxi") == [
        (139_370, 95)
    ]
    partitions = {
        name.split("/")[1] for name in gcs.names(zoomcamp.bucket) if name.startswith("green_taxi/lpep")
    }
    assert len(partitions) == 95

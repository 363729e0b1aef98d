"""Every pipeline of the taxi example, on every profile it has, over synthetic trips."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

from pipelines.project import Project
from service.store.values import Run, RunState
from tests.examples.conftest import PROFILES, Taxi
from tests.parts.example import EXAMPLES


def assert_succeeded(taxi: Taxi, run: Run) -> None:
    assert run.state is RunState.SUCCEEDED, f"{run.error}\n{taxi.bench.log(run)}"


def rows_of(run: Run, block: str) -> int | None:
    return next(found.rows for found in run.blocks if found.name == block)


def test_example_has_no_problems() -> None:
    assert Project.load(EXAMPLES / "taxi").problems == ()


def test_profiles_are_those_that_are_tested() -> None:
    for pipeline in Project.load(EXAMPLES / "taxi").pipelines.values():
        (profile,) = (declared for declared in pipeline.inputs if declared.name == "profile")
        assert profile.choices == PROFILES


def test_titanic(taxi: Taxi, source: str) -> None:
    run = taxi.bench.run("example_pipeline", source=source, profile=taxi.profile)

    assert_succeeded(taxi, run)
    passengers = pd.read_csv(taxi.lake / "titanic_clean.csv")
    assert len(passengers) == 891
    assert not passengers.isna().any().any()


def test_api_to_warehouse(taxi: Taxi, source: str) -> None:
    run = taxi.bench.run(
        "api_to_warehouse", source=source, months=["2021-01", "2021-02"], profile=taxi.profile
    )

    assert_succeeded(taxi, run)
    assert rows_of(run, "load_trips") == 600
    ((count, least),) = taxi.query("SELECT count(*), min(passenger_count) FROM ny_taxi.yellow_cab_data")
    assert count == rows_of(run, "drop_empty_trips")
    assert least == 1


def test_lake_by_api_and_from_there_to_the_warehouse(taxi: Taxi, source: str) -> None:
    to_lake = taxi.bench.run("api_to_lake", source=source, profile=taxi.profile)
    to_warehouse = taxi.bench.run("lake_to_warehouse", profile=taxi.profile)

    assert_succeeded(taxi, to_lake)
    assert_succeeded(taxi, to_warehouse)
    one_file = pd.read_parquet(taxi.lake / "nyc_taxi_data.parquet")
    dataset = ds.dataset(taxi.lake / "nyc_taxi_data", partitioning="hive")
    assert len(one_file) == dataset.count_rows() == rows_of(to_lake, "drop_empty_trips")
    assert len(dates_in(taxi.lake / "nyc_taxi_data")) == one_file["tpep_pickup_datetime"].dt.date.nunique()
    ((count, located),) = taxi.query("SELECT count(*), count(pulocationid) FROM ny_taxi.staged_trips")
    assert count == located == len(one_file)


def test_daily_trips_go_to_the_folder_of_their_day(taxi: Taxi, source: str) -> None:
    day = datetime(2020, 10, 5, tzinfo=UTC)

    run = taxi.bench.run("daily_trips", day, source=source, profile=taxi.profile)

    assert_succeeded(taxi, run)
    trips = pd.read_parquet(taxi.lake / "2020" / "10" / "05" / "daily_trips.parquet")
    assert len(trips) > 0
    assert set(trips["lpep_pickup_datetime"].dt.date) == {day.date()}


def test_green_quarter(taxi: Taxi, source: str) -> None:
    run = taxi.bench.run("green_taxi", source=source, profile=taxi.profile)

    assert_succeeded(taxi, run)
    assert rows_of(run, "load_trips") == 900
    ((count, passengers, distance),) = taxi.query(
        "SELECT count(*), min(passenger_count), min(trip_distance) FROM mage.green_taxi"
    )
    assert count == rows_of(run, "clean_green_trips")
    assert passengers > 0
    assert distance > 0
    assert len(dates_in(taxi.lake / "green_taxi")) == 92


def test_green_quarter_again_replaces_what_is_there(taxi: Taxi, source: str) -> None:
    runs = [taxi.bench.run("green_taxi", source=source, profile=taxi.profile) for _ in range(2)]

    ((count,),) = taxi.query("SELECT count(*) FROM mage.green_taxi")
    dataset = ds.dataset(taxi.lake / "green_taxi", partitioning="hive")
    assert count == dataset.count_rows() == rows_of(runs[1], "clean_green_trips")


@pytest.mark.parametrize("taxi", ["default"], indirect=True)
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"months": ["2021-13"]}, "404"),
        ({"source": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_source_that_has_nothing_is_named(
    taxi: Taxi, source: str, variables: dict[str, object], words: str
) -> None:
    run = taxi.bench.run("api_to_warehouse", profile=taxi.profile, **{"source": source, **variables})

    assert run.state is RunState.FAILED
    assert words in taxi.bench.log(run)


def dates_in(dataset: Path) -> set[str]:
    return {folder.name for folder in dataset.iterdir() if folder.is_dir()}

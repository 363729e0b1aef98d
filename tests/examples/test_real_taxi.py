"""The taxi example over the real files, where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from service.store.values import RunState
from tests.examples.conftest import Taxi
from tests.examples.test_taxi import assert_succeeded, dates_in, rows_of
from tests.parts.example import trip_source

DATA = Path(__file__).parents[3] / "shared" / "data"
MOST_MEMORY_MB = 900

pytestmark = pytest.mark.skipif(
    not (DATA / "taxi").is_dir(), reason=f"the real trips are not there: {DATA / 'taxi'}"
)

DECLARED = {
    "vendor_id": pa.int64(),
    "lpep_pickup_datetime": pa.timestamp("us"),
    "lpep_dropoff_datetime": pa.timestamp("us"),
    "passenger_count": pa.int64(),
    "trip_distance": pa.float64(),
    "ehail_fee": pa.float64(),
    "payment_type": pa.int64(),
}
IN_POSTGRES = {
    "vendor_id": "bigint",
    "lpep_pickup_datetime": "timestamp without time zone",
    "passenger_count": "bigint",
    "trip_distance": "double precision",
    "store_and_fwd_flag": "text",
    "lpep_pickup_date": "date",
}


@pytest.fixture(scope="module")
def real_source() -> Iterator[str]:
    with trip_source(DATA / "taxi") as url:
        yield url


def test_real_quarter(taxi: Taxi, real_source: str) -> None:
    run = taxi.bench.run("green_taxi", source=real_source, profile=taxi.profile)

    assert_succeeded(taxi, run)
    assert rows_of(run, "load_trips") == 266_855
    assert rows_of(run, "clean_green_trips") == 139_370
    assert taxi.query("SELECT count(*), count(DISTINCT lpep_pickup_date) FROM mage.green_taxi") == [
        (139_370, 95)
    ]
    dataset = ds.dataset(taxi.lake / "green_taxi", partitioning="hive")
    assert dataset.count_rows() == 139_370
    assert len(dates_in(taxi.lake / "green_taxi")) == 95
    assert {name: dataset.schema.field(name).type for name in DECLARED} == DECLARED
    assert taxi.bench.peak_memory_mb() < MOST_MEMORY_MB


@pytest.mark.parametrize("taxi", ["postgres"], indirect=True)
def test_types_in_real_postgres_are_as_declared(taxi: Taxi, real_source: str) -> None:
    assert_succeeded(taxi, taxi.bench.run("green_taxi", source=real_source, profile=taxi.profile))

    found = dict(
        taxi.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'mage' AND table_name = 'green_taxi'"
        )
    )

    assert {name: found[name] for name in IN_POSTGRES} == IN_POSTGRES


def test_cut_file_fails_clearly_and_leaves_the_table_as_it_was(taxi: Taxi, real_source: str) -> None:
    good = taxi.bench.run("api_to_warehouse", source=real_source, months=["2021-02"], profile=taxi.profile)
    assert_succeeded(taxi, good)
    before = taxi.query("SELECT count(*), sum(total_amount) FROM ny_taxi.yellow_cab_data")

    cut = taxi.bench.run(
        "api_to_warehouse", source=real_source, months=["2021-01.slice"], profile=taxi.profile
    )

    assert cut.state is RunState.FAILED
    (loader,) = (block for block in cut.blocks if block.name == "load_trips")
    assert "it is cut, it ends in the middle of line 22,794" in str(loader.error)
    assert loader.attempt == 1  # trying again would not help
    assert taxi.query("SELECT count(*), sum(total_amount) FROM ny_taxi.yellow_cab_data") == before


def test_real_titanic(taxi: Taxi) -> None:
    with trip_source(DATA) as url:
        run = taxi.bench.run("example_pipeline", source=url, profile=taxi.profile)

    assert_succeeded(taxi, run)
    assert rows_of(run, "export_titanic_clean") == 891

"""Files of trips that are not whole, or not what they should be: the run says which, and what is wrong."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from service.store.values import RunState
from tests.examples.conftest import Taxi
from tests.parts.example import trip_source

HEADER = (
    "VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    "store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
    "tolls_amount,improvement_surcharge,total_amount,congestion_surcharge\n"
)
TRIP = "1,2021-01-01 00:30:10,2021-01-01 00:36:12,1,{},1,N,142,43,2,8,3,0.5,0,0,0.3,11.8,2.5\n"
_dice = random.Random(1)
MONTH = HEADER + "".join(TRIP.format(round(_dice.random() * 9, 2)) for _ in range(500))
WHOLE = gzip.compress(MONTH.encode())

BROKEN = {
    "cut_gzip": (WHOLE[: len(WHOLE) // 2], "is not a whole gzip file"),
    "no_gzip": (b"<html>come back later</html>", "is not a whole gzip file"),
    "empty": (b"", "holds no table"),
    "cut_line": (gzip.compress(MONTH[:-30].encode()), "it is cut, it ends in the middle of line 501"),
    "wrong_type": (gzip.compress(MONTH.replace(",142,", ",here,").encode()), "does not hold what it should"),
    "wrong_time": (
        gzip.compress(MONTH.replace("2021-01-01", "01/01/21").encode()),
        "does not hold what it should",
    ),
    "lacks_column": (
        gzip.compress(MONTH.replace("total_amount", "sum").encode()),
        "lacks the columns total_amount",
    ),
}


@pytest.mark.parametrize("taxi", ["default"], indirect=True)
def test_broken_file_is_named_and_not_tried_again(taxi: Taxi, tmp_path: Path) -> None:
    for name, (content, _) in BROKEN.items():
        (tmp_path / f"yellow_tripdata_{name}.csv.gz").write_bytes(content)

    with trip_source(tmp_path) as url:
        runs = {
            name: taxi.bench.run("api_to_warehouse", source=url, months=[name], profile="default")
            for name in BROKEN
        }

    for name, run in runs.items():
        loader = run.blocks[0]
        assert run.state is RunState.FAILED
        assert f"yellow_tripdata_{name}.csv.gz" in str(loader.error)
        assert BROKEN[name][1] in str(loader.error)
        assert loader.attempt == 1

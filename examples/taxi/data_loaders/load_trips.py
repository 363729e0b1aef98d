"""Loads months of New York taxi trips from their publisher, every column with its declared type."""

import gzip
import http.client
import io
import zlib
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pandas as pd

from pipelines import TerminalError, data_loader, test

TIMEOUT_SECONDS = 60
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"

TYPES = {
    "VendorID": "Int64",
    "store_and_fwd_flag": "str",
    "RatecodeID": "Int64",
    "PULocationID": "Int64",
    "DOLocationID": "Int64",
    "passenger_count": "Int64",
    "trip_distance": "float64",
    "fare_amount": "float64",
    "extra": "float64",
    "mta_tax": "float64",
    "tip_amount": "float64",
    "tolls_amount": "float64",
    "improvement_surcharge": "float64",
    "total_amount": "float64",
    "payment_type": "Int64",
    "congestion_surcharge": "float64",
}
TYPES_OF = {
    "yellow": TYPES,
    "green": TYPES | {"ehail_fee": "float64", "trip_type": "Int64"},
}
TIMES_OF = {
    "yellow": ("tpep_pickup_datetime", "tpep_dropoff_datetime"),
    "green": ("lpep_pickup_datetime", "lpep_dropoff_datetime"),
}


class BrokenFileError(TerminalError):
    """What was published is not a whole file of trips; loading it again would not help."""


@data_loader
def load_trips(**kwargs):
    colour = kwargs["colour"]
    months = kwargs.get("months") or [f"{kwargs['execution_date']:%Y-%m}"]
    frames = []
    for month in months:
        url = f"{kwargs['source'].rstrip('/')}/{colour}_tripdata_{month}.csv.gz"
        trips = read_month(url, colour)
        print(f"{url}: {len(trips):,} trips")
        frames.append(trips)
    return pd.concat(frames, ignore_index=True)


def read_month(url, colour):
    content = Tail(gzip.GzipFile(fileobj=io.BytesIO(download(url))))
    try:
        trips = pd.read_csv(content, dtype=TYPES_OF[colour])
        refuse_cut(content, trips)
        refuse_missing(trips, colour)
        for column in TIMES_OF[colour]:
            trips[column] = pd.to_datetime(trips[column], format=TIME_FORMAT)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFileError(f"{url} is not a whole gzip file ({error}); publish it again") from error
    except pd.errors.EmptyDataError as error:
        raise BrokenFileError(f"{url} holds no table; publish it again") from error
    except ValueError as error:
        raise BrokenFileError(f"{url} does not hold what it should: {error}") from error
    return trips


def refuse_cut(content, trips):
    if content.last != b"\n":
        line = len(trips) + 1  # with the header
        raise ValueError(
            f"it is cut, it ends in the middle of line {line:,}; nothing of it is used, publish it again"
        )


def refuse_missing(trips, colour):
    missing = {*TYPES_OF[colour], *TIMES_OF[colour]} - set(trips.columns)
    if missing:
        raise ValueError(f"it lacks the columns {', '.join(sorted(missing))}")


def download(url):
    try:
        with urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            return response.read()
    except HTTPError as error:
        raise ConnectionError(f"{url} answered {error.code} {error.reason}") from error
    except http.client.IncompleteRead as error:
        raise ConnectionError(f"{url} broke off after {len(error.partial):,} bytes") from error
    except URLError as error:
        raise ConnectionError(
            f"{url} cannot be reached ({error.reason}); is the source running? "
            "`python source_server.py` serves one, and the variable `source` says where it is"
        ) from error


class Tail:
    """A file that remembers its last byte, since a line cut short would pass for one with empty columns."""

    def __init__(self, file):
        self.file = file
        self.last = b"\n"

    def read(self, size=-1):
        data = self.file.read(size)
        self.last = data[-1:] or self.last
        return data

    def __iter__(self):
        return iter(self.file)


@test
def test_there_are_trips(trips, *args):
    assert len(trips) > 0, "the source holds no trips"


@test
def test_types_are_as_declared(trips, *args):
    declared = TYPES_OF["green" if "trip_type" in trips else "yellow"]
    assert {name: str(trips[name].dtype) for name in declared} == declared

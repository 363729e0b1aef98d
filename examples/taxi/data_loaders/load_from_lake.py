"""Loads trips that wait in the lake as Parquet."""

from pipelines import data_loader, test
from pipelines.io import Files


@data_loader
def load_from_lake(**kwargs):
    with Files.from_profile(kwargs["profile"]) as lake:
        return lake.load(kwargs["object"])


@test
def test_there_are_trips(trips, *args):
    assert len(trips) > 0, "the object holds no trips"

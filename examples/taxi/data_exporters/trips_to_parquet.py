"""Writes the trips to the lake as one Parquet file."""

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def trips_to_parquet(trips, **kwargs):
    with Files.from_profile(kwargs["profile"]) as lake:
        lake.export(trips, kwargs["object"])

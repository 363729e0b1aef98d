"""Writes the trips to the lake as a Parquet dataset, one folder for each pick-up date."""

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def trips_to_dataset(trips, **kwargs):
    pickup = next(name for name in trips.columns if name.endswith("_pickup_datetime"))
    date = pickup.replace("_datetime", "_date")
    if date not in trips:
        trips = trips.assign(**{date: trips[pickup].dt.date})
    with Files.from_profile(kwargs["profile"]) as lake:
        lake.export(trips, kwargs["dataset"], format="parquet", partition_cols=[date])

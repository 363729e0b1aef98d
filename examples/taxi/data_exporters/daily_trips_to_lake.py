"""Writes the trips of a day to YYYY/MM/DD/daily_trips.parquet, by the run's execution date."""

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def daily_trips_to_lake(trips, **kwargs):
    path = f"{kwargs['execution_date']:%Y/%m/%d}/daily_trips.parquet"
    with Files.from_profile(kwargs["profile"]) as lake:
        lake.export(trips, path)

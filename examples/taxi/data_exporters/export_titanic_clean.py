"""Writes the filled-in passenger list to the lake."""

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def export_titanic_clean(passengers, **kwargs):
    with Files.from_profile(kwargs["profile"]) as lake:
        lake.export(passengers, "titanic_clean.csv", index=False)

"""Replaces a table of the warehouse by the trips. A failure leaves the table as it was."""

from pipelines import data_exporter
from pipelines.io import DuckDB, Postgres

WAREHOUSES = {"default": DuckDB, "postgres": Postgres}


@data_exporter
def trips_to_warehouse(trips, **kwargs):
    profile = kwargs["profile"]
    with WAREHOUSES[profile].from_profile(profile) as warehouse:
        warehouse.export(
            trips,
            schema_name=kwargs["schema"],
            table_name=kwargs["table"],
            if_exists="replace",
        )

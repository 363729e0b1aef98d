from typing import Any

import pandas as pd

from pipelines import data_exporter
from pipelines.io import DuckDB


@data_exporter
def export(orders: pd.DataFrame, **_: Any) -> None:
    """Write the rows into a table, all or nothing, and once, however often the block is tried."""
    with DuckDB.from_profile("default") as database:
        database.export(orders, table_name="orders", if_exists="replace")

from typing import Any

import pandas as pd

from pipelines import data_loader
from pipelines.io import MySQL


@data_loader
def load(**_: Any) -> pd.DataFrame:
    """Return the rows of a query, by the profile `default` of io_config.yaml."""
    with MySQL.from_profile("default") as database:
        rows: pd.DataFrame = database.load("SELECT * FROM orders")
    return rows

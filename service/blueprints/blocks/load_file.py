from typing import Any

import pandas as pd

from pipelines import data_loader
from pipelines.io import Files


@data_loader
def load(**_: Any) -> pd.DataFrame:
    """Read a file of the project: CSV, JSON, Parquet or Excel, compressed or not."""
    rows: pd.DataFrame = Files.from_profile("default").load("data/orders.csv")
    return rows

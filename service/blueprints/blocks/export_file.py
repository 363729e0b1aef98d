from typing import Any

import pandas as pd

from pipelines import data_exporter
from pipelines.io import Files


@data_exporter
def export(orders: pd.DataFrame, *, ds: str, **_: Any) -> None:
    """Write a file of the project; it appears whole or not at all."""
    Files.from_profile("default").export(orders, f"out/orders-{ds}.parquet")

from typing import Any

import pandas as pd

from pipelines import data_exporter
from pipelines.io import GoogleCloudStorage


@data_exporter
def export(orders: pd.DataFrame, *, ds: str, **_: Any) -> None:
    """Write an object of a bucket; the ending tells the format."""
    GoogleCloudStorage.from_profile("default").export(orders, "my-bucket", f"orders/{ds}.parquet")

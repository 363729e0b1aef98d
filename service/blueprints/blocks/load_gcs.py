from typing import Any

import pandas as pd

from pipelines import data_loader
from pipelines.io import GoogleCloudStorage


@data_loader
def load(*, ds: str, **_: Any) -> pd.DataFrame:
    """Read an object of a bucket; one that is missing is an error that names it."""
    rows: pd.DataFrame = GoogleCloudStorage.from_profile("default").load("my-bucket", f"orders/{ds}.parquet")
    return rows

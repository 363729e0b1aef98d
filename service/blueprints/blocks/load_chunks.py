from collections.abc import Iterator
from typing import Any

import pandas as pd

from pipelines import data_loader


@data_loader
def load(**_: Any) -> Iterator[pd.DataFrame]:
    """Give a file larger than memory piece by piece; the next blocks get a Stream."""
    yield from pd.read_csv("data/orders.csv", chunksize=100_000)

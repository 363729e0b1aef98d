from typing import Any

import pandas as pd

from pipelines import transformer


@transformer(stream=True)
def transform(orders: pd.DataFrame, **_: Any) -> pd.DataFrame:
    """Is called for each piece of data larger than memory."""
    return orders[orders["amount"].notna()]

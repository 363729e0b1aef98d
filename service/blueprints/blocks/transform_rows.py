from typing import Any

import pandas as pd

from pipelines import test, transformer


@transformer
def transform(orders: pd.DataFrame, **_: Any) -> pd.DataFrame:
    """Return the rows without those that lack an amount."""
    return orders[orders["amount"].notna()]


@test
def test_all_have_an_amount(output: pd.DataFrame) -> None:
    assert output["amount"].notna().all(), "an order has no amount"

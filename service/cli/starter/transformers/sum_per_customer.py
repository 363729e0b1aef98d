from typing import Any

import pandas as pd

from pipelines import test, transformer


@transformer
def sum_per_customer(orders: pd.DataFrame, **_: Any) -> pd.DataFrame:
    return orders.groupby("customer", as_index=False)[["amount"]].sum()


@test
def test_customers_are_unique(output: pd.DataFrame) -> None:
    assert output["customer"].is_unique

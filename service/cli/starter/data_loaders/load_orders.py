from typing import Any

import pandas as pd

from pipelines import data_loader, test


@data_loader
def load_orders(*, orders: list[dict[str, Any]], **_: Any) -> pd.DataFrame:
    """Turn the orders of this run into a frame."""
    return pd.DataFrame(orders, columns=["customer", "amount"])


@test
def test_has_orders(output: pd.DataFrame) -> None:
    assert len(output) > 0, "there are no orders"

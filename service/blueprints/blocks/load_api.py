from typing import Any

import pandas as pd
import requests

from pipelines import data_loader, test

URL = "https://example.com/orders"


@data_loader
def load(*, ds: str, **_: Any) -> pd.DataFrame:
    """Return the orders of the day that the run is for."""
    answer = requests.get(URL, params={"day": ds}, timeout=30)
    answer.raise_for_status()
    return pd.DataFrame(answer.json())


@test
def test_has_rows(output: pd.DataFrame) -> None:
    assert len(output) > 0, "the API has no orders for this day"

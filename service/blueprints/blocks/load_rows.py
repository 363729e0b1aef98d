from typing import Any

import pandas as pd

from pipelines import data_loader, test


@data_loader
def load(**variables: Any) -> pd.DataFrame:
    """Return the rows that the next blocks get."""
    return pd.DataFrame({"day": [variables["ds"]], "amount": [1.0]})


@test
def test_has_rows(output: pd.DataFrame) -> None:
    assert len(output) > 0, "there are no rows"

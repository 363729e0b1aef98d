from typing import Any

import pandas as pd

from pipelines import condition


@condition
def has_rows(*inputs: pd.DataFrame, **_: Any) -> bool:
    """Say whether the guarded block runs; when not, it and all that follows are skipped."""
    return all(len(rows) > 0 for rows in inputs)

"""Frames as DuckDB reads them where they lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.io.frames import to_arrow

# Besides those of numpy: the types of pandas that DuckDB reads as Arrow would give them.
_PLAIN = frozenset({"str", "boolean", "Float32", "Float64"}) | {
    f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)
}


def scannable(data: Any) -> Any:
    """Return a frame as DuckDB reads it best: one of pandas as it is, if all its types mean the same to both.

    So only the columns that a query names are read. What DuckDB would have to guess goes by Arrow.
    """
    return data if isinstance(data, pd.DataFrame) and _has_plain_types(data) else readable(to_arrow(data))


def readable(table: pa.Table) -> pa.Table:
    """Give categories, and columns of only nulls, a plain type that the next frame fits as well."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(field.type.value_type))
        elif pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


def _has_plain_types(frame: pd.DataFrame) -> bool:
    names = list(frame.columns)
    is_named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names) > 0
    return is_named and len(frame) > 0 and all(map(_is_plain, frame.dtypes))


def _is_plain(dtype: Any) -> bool:
    if isinstance(dtype, np.dtype):
        return dtype.kind in "biumM" or dtype in (np.float32, np.float64)
    return isinstance(dtype, pd.DatetimeTZDtype) or str(dtype) in _PLAIN

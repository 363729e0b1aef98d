"""Copies of values, so that what one holder does to its own is never seen by another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.streams import Stream

# Values of these types cannot change, so all holders may share them.
IMMUTABLE = (
    type(None), bool, int, float, complex, str, bytes, Decimal, date, datetime, time, timedelta,
    pa.Table, pa.RecordBatch, pa.Array, pa.ChunkedArray, pa.Schema, Stream,
)  # fmt: skip

# pandas' words for lists, dictionaries and other objects without a name of their own, alone or among numbers.
_MIXED = ("mixed", "mixed-integer")


def own_copy(value: Any) -> Any:
    """Return a copy that its holder may change.

    Frames and series are copied shallowly: pandas copies the data itself once somebody writes to it. What
    cannot be copied (a generator, a connection) is returned as it is.
    """
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    copier = _CONTAINERS.get(kind)
    try:
        if copier is not None:
            return copier(value)
        if isinstance(value, (pd.DataFrame, pd.Series)):
            return _frame_copy(value)
        return copy.deepcopy(value)
    except Exception:
        return value


def own_copies(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(own_copy(value) for value in values)


_CONTAINERS: dict[type, Callable[[Any], Any]] = {
    list: lambda items: [own_copy(item) for item in items],
    tuple: lambda items: tuple(own_copy(item) for item in items),
    dict: lambda items: {key: own_copy(value) for key, value in items.items()},
    set: set,  # what is in a set is hashable, and so does not change
    np.ndarray: lambda array: array.copy(),
}


def _frame_copy(value: Any) -> Any:
    if isinstance(value, pd.Series):
        return _objects(value) if _holds_mutable_objects(value) else value.copy(deep=False)
    shallow = value.copy(deep=False)
    for position in np.flatnonzero([_is_object(dtype) for dtype in value.dtypes]):
        column = value.iloc[:, position]
        if _holds_mutable_objects(column):
            shallow.isetitem(int(position), _objects(column))
    return shallow


def _objects(column: pd.Series[Any]) -> pd.Series[Any]:
    """Copy the objects of a column; pandas itself would share them even in a deep copy."""
    copies = np.empty(len(column), dtype=object)
    for row, item in enumerate(column.array):
        copies[row] = own_copy(item)
    return pd.Series(copies, index=column.index, name=column.name, dtype=object)


def _holds_mutable_objects(column: pd.Series[Any]) -> bool:
    return _is_object(column.dtype) and pd.api.types.infer_dtype(column, skipna=True) in _MIXED


def _is_object(dtype: Any) -> bool:
    return bool(pd.api.types.is_object_dtype(dtype))

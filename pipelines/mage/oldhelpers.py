"""What the code of Mage's blocks is compiled to call, where pandas 3 does not do what its elders did."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pandas as pd

# Kinds of an index in which pandas always looked for a number as for any label.
_LABELS_THAT_ARE_NUMBERS = ("integer", "mixed-integer", "floating", "complex")


def with_keys(owner: Any) -> Any:
    """Return groups whose functions see the columns they are grouped by, as they did; else `owner` itself."""
    if type(owner).__name__ != "DataFrameGroupBy" or getattr(owner, "_selection", None) is not None:
        return owner
    return owner[list(owner.obj.columns)] if hasattr(owner.obj, "columns") else owner


def change_item(owner: Any, key: Any, method: str, /, *args: Any, **options: Any) -> None:
    """Do `owner[key].method(..., inplace=True)` so that it is not lost where `owner` is a frame."""
    change = getattr(owner[key], method)
    if isinstance(owner, pd.DataFrame):
        owner[key] = change(*args, **options)
    else:
        change(*args, **options, inplace=True)


def change_attribute(owner: Any, name: str, method: str, /, *args: Any, **options: Any) -> None:
    """Do `owner.name.method(..., inplace=True)` so that it is not lost where that is a column."""
    part = getattr(owner, name)
    if isinstance(owner, pd.DataFrame) and name in owner.columns:
        change_item(owner, name, method, *args, **options)
    else:
        getattr(part, method)(*args, **options, inplace=True)


def assign_part(owner: Any, key: Any, way: str, rows: Any, value: Any) -> None:
    """Do `owner[key].way[rows] = value` so that it is not lost where `owner` is a frame."""
    part = owner[key]
    is_frame = hasattr(owner, "columns") and hasattr(part, "copy")
    if is_frame:
        part = part.copy()
    place = getattr(part, way) if way else part
    place[rows] = value
    if is_frame:
        owner[key] = part


def converted_if_possible(convert: Callable[..., Any], values: Any, *args: Any, **options: Any) -> Any:
    try:
        return convert(values, *args, **options)
    except (ValueError, TypeError):
        return values


def readable(source: Any) -> Any:
    """Return a text that is the data itself, and no path, as a file of it."""
    return (
        io.StringIO(source) if isinstance(source, str) and source.lstrip()[:1] in ("{", "[", "<") else source
    )


def in_nanoseconds(times: Any) -> Any:
    """Return times as they were counted before pandas 3, which counts microseconds; else `times` itself.

    Whoever makes whole numbers of them divides by the nanoseconds of a second.
    """
    dtype = getattr(times, "dtype", None)
    if getattr(dtype, "kind", None) not in ("m", "M") or "[us" not in str(dtype):
        return times
    return times.astype(str(dtype).replace("[us", "[ns"))


def of_bigquery(owner: Any, name: str) -> Callable[..., Any]:
    """Return `pd.read_gbq` or `df.to_gbq`, which is in a library of its own since pandas 3."""
    if hasattr(owner, name):
        found: Callable[..., Any] = getattr(owner, name)
        return found
    function = getattr(import_module("pandas_gbq"), name)
    return partial(function, owner) if isinstance(owner, pd.DataFrame) else function


def item(owner: Any, key: int) -> Any:
    """Return `owner[key]`; of a Series whose labels are no numbers, what stands in that place."""
    try:
        return owner[key]
    except KeyError:
        if isinstance(owner, pd.Series) and owner.index.inferred_type not in _LABELS_THAT_ARE_NUMBERS:
            return owner.iloc[key]
        raise


def is_object(dtype: Any) -> Any:
    """Tell of a type, or of each in a Series of types, whether it was `object` before pandas 3."""
    if isinstance(dtype, pd.Series):
        return dtype.map(is_object).astype(bool)
    is_text = isinstance(dtype, pd.StringDtype) and str(dtype) == "str"
    return is_text or bool(pd.api.types.is_object_dtype(dtype))


def is_not_object(dtype: Any) -> Any:
    found = is_object(dtype)
    return ~found if isinstance(found, pd.Series) else not found

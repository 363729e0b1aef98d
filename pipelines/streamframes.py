"""Batches of a stream as pandas frames: the same dtypes in all of them, whatever the values of one batch are.

Kept of the frames a block gave: dtypes, where all frames agree on them, and an index that is named or holds
other things than numbers. Lost: row numbers, `attrs`, and labels of columns that are no text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.io.nullable import NULLABLE


@dataclass(frozen=True)
class FrameFacts:
    """What Arrow's schema does not tell of the frames."""

    dtypes: Mapping[str, str]  # of columns whose frames all agree on a dtype
    nullable: frozenset[str]  # columns that lack values in some batch
    index: tuple[Any, ...]  # names of the index's levels; empty for row numbers

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> FrameFacts:
        return cls(stored["dtypes"], frozenset(stored["nullable"]), tuple(stored["index"]))


def frame_of(table: pa.Table, facts: FrameFacts) -> pd.DataFrame:
    """Return a part of a stream as a frame that may be written to."""
    series = {place: _series(column, name, facts) for place, (name, column) in enumerate(_columns(table))}
    frame = pd.DataFrame(series, copy=False, index=pd.RangeIndex(table.num_rows))
    frame.columns = pd.Index(table.column_names, dtype=None if table.column_names else object)
    return _with_index(frame, facts.index) if facts.index else frame


def _columns(table: pa.Table) -> list[tuple[str, pa.ChunkedArray]]:
    return list(zip(table.column_names, table.columns, strict=True))


def _series(column: pa.ChunkedArray, name: str, facts: FrameFacts) -> pd.Series[Any]:
    dtype = _dtype(column.type, name, facts)
    if pd.api.types.is_object_dtype(dtype) or (dtype is None and _holds_objects(column.type)):
        return _objects(column)
    if isinstance(dtype, pd.api.extensions.ExtensionDtype) and hasattr(dtype, "__from_arrow__"):
        return pd.Series(dtype.__from_arrow__(column))
    series: pd.Series[Any] = column.to_pandas()
    if dtype is None or isinstance(series.dtype, pd.CategoricalDtype) or series.dtype == dtype:
        return series
    return series.astype(dtype)


def _dtype(kind: pa.DataType, name: str, facts: FrameFacts) -> Any:
    """Return the dtype of a column in all frames; None for the one that Arrow's type gives."""
    if name in facts.dtypes:
        return pd.api.types.pandas_dtype(facts.dtypes[name])
    return NULLABLE.get(kind) if name in facts.nullable else None


def _holds_objects(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind)


def _objects(column: pa.ChunkedArray) -> pd.Series[Any]:
    values = column.to_pylist()
    if column.type == pa.json_():
        values = [None if text is None else json.loads(text) for text in values]
    objects = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        objects[row] = value
    return pd.Series(objects)


def _with_index(frame: pd.DataFrame, names: tuple[Any, ...]) -> pd.DataFrame:
    levels = frame.iloc[:, : len(names)]
    rest = frame.iloc[:, len(names) :]
    if len(names) > 1:
        rest.index = pd.MultiIndex.from_frame(levels, names=list(names))
    else:
        rest.index = pd.Index(levels.iloc[:, 0]).rename(names[0])
    return rest

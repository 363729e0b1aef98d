"""What the columns of a frame hold, as Mage tells it."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.api import types

from pipelines.mage.constants import ColumnType

_MOST_CATEGORIES = 255
_LONG_TEXT = 40  # characters: longer ones are sentences, and no categories
_ENOUGH = 0.8  # of the values must have a form for the column to have it
_FORMS = (
    (ColumnType.EMAIL, r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    (ColumnType.NUMBER, r"[-+]?\d+"),
    (ColumnType.NUMBER_WITH_DECIMALS, r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"),
)
_PHONE = r"\+?[\d\s().-]{7,20}"


def infer_column_types(df: pd.DataFrame, *_: Any, **__: Any) -> dict[str, ColumnType]:
    """Return what each column holds."""
    return {str(name): _type_of(df[name]) for name in df.columns}


def convert_matrix_to_dataframe(matrix: Any) -> pd.DataFrame:
    """Return a matrix of scipy, dense or sparse, as a frame."""
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    return pd.DataFrame(dense)


def _type_of(values: pd.Series) -> ColumnType:
    there = values.dropna()
    if types.is_bool_dtype(values):
        return ColumnType.TRUE_OR_FALSE
    if types.is_datetime64_any_dtype(values):
        return ColumnType.DATETIME
    if types.is_integer_dtype(values):
        return ColumnType.NUMBER
    if types.is_numeric_dtype(values):
        is_whole = len(there) > 0 and bool((there == there.round()).all())
        return ColumnType.NUMBER if is_whole else ColumnType.NUMBER_WITH_DECIMALS
    if len(there) and there.map(lambda value: isinstance(value, list | tuple)).all():
        return ColumnType.LIST
    return _type_of_texts(there.astype("str"))


def _type_of_texts(there: pd.Series) -> ColumnType:
    if there.empty:
        return ColumnType.UNKNOWN
    distinct = there.nunique()
    if distinct == 2:
        return ColumnType.TRUE_OR_FALSE
    for kind, form in _FORMS:
        if there.str.strip().str.fullmatch(form).mean() >= _ENOUGH:
            return kind
    if pd.to_datetime(there, errors="coerce", format="mixed").notna().mean() >= _ENOUGH:
        return ColumnType.DATETIME
    if there.str.strip().str.fullmatch(_PHONE).mean() >= _ENOUGH:
        return ColumnType.PHONE_NUMBER
    if there.str.len().mean() > _LONG_TEXT:
        return ColumnType.TEXT
    return ColumnType.CATEGORY if distinct <= _MOST_CATEGORIES else ColumnType.CATEGORY_HIGH_CARDINALITY

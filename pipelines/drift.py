"""The columns of a stream while its frames come: one type for each, although frames may differ.

Whatever two frames do not agree on is either held by a wider type, or told: a column that some frames lack
by a warning, types that have nothing in common by TypesDiffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.io.nullable import NULLABLE
from pipelines.unifying import TypesDiffer, common_type

Warn = Callable[[str], None]


@dataclass
class _Column:
    """What is known of one column so far."""

    type: pa.DataType  # null for as long as no value has come
    since: int  # the number of the frame that gave it this type
    weak_type: pa.DataType  # what its frames said while no value had come
    dtypes: set[str | None] = field(default_factory=set)  # of pandas; None for what is no pandas frame
    lacks_values: bool = False
    is_told: bool = False  # that some frames lack it


class Columns:
    """All columns, in the order in which they came."""

    def __init__(self, warn: Warn) -> None:
        self._columns: dict[str, _Column] = {}
        self._warn = warn
        self._frames = 0

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, column.type) for name, column in self._columns.items()])

    def take(self, number: int, table: pa.Table, dtypes: Sequence[str | None]) -> None:
        """Learn the types of the frame of that number; TypesDiffer when it fits none that came before."""
        self._take_lacking(number, table)
        for name, values, dtype in zip(table.column_names, table.columns, dtypes, strict=True):
            column = self._columns.setdefault(name, _Column(pa.null(), number, values.type))
            column.lacks_values |= values.null_count > 0
            if values.null_count == len(values):
                continue
            column.dtypes.add(dtype)
            found = common_type(column.type, values.type)
            if found is None:
                raise TypesDiffer(
                    f"column {name!r} is {_told(column.type)} in frame {column.since}, and "
                    f"{_told(values.type)} in frame {number}; give it one type in all frames, for instance "
                    f"by astype(), or by the reader's dtype="
                )
            if not found.equals(column.type):
                column.type, column.since = found, number
        self._frames += 1

    def settle(self) -> None:
        """Give columns without any value the type that their frames said."""
        for column in self._columns.values():
            if pa.types.is_null(column.type):
                column.type = column.weak_type

    def facts(self) -> dict[str, Any]:
        """Return what `pipelines.streamframes.FrameFacts` wants to know."""
        dtypes = {name: column for name, column in self._columns.items() if len(column.dtypes) == 1}
        return {
            "dtypes": {
                name: dtype
                for name, column in dtypes.items()
                if (dtype := next(iter(column.dtypes))) is not None and _holds(dtype, column.lacks_values)
            },
            "nullable": [
                name
                for name, column in self._columns.items()
                if column.lacks_values and column.type in NULLABLE
            ],
        }

    def since(self, name: str) -> int:
        return self._columns[name].since

    def _take_lacking(self, number: int, table: pa.Table) -> None:
        there = set(table.column_names)
        for name, column in self._columns.items():
            if name not in there:
                column.lacks_values = True
                self._tell(column, f"frame {number} has no column {name!r}, as those before it have")
        for name in table.column_names:
            if self._frames and name not in self._columns:
                column = self._columns[name] = _Column(pa.null(), number, table.schema.field(name).type)
                column.lacks_values = True
                self._tell(column, f"frame {number} has a column {name!r}, which those before it lack")

    def _tell(self, column: _Column, sentence: str) -> None:
        if not column.is_told:
            column.is_told = True
            self._warn(f"{sentence}; it is null where it lacks")


def _told(kind: pa.DataType) -> str:
    return "text" if pa.types.is_large_string(kind) else str(kind)


def _holds(dtype: str, lacks_values: bool) -> bool:
    """Say whether a dtype holds a lacking value, if there is one."""
    kind = pd.api.types.pandas_dtype(dtype)
    return not lacks_values or not isinstance(kind, np.dtype) or kind.kind not in "iub"


def dtype_name(dtype: Any) -> str | None:
    """Return the name by which a dtype can be made again; None where Arrow's own type has to tell it."""
    if isinstance(dtype, (pd.CategoricalDtype, pd.SparseDtype)):
        return None
    try:
        return str(dtype) if pd.api.types.pandas_dtype(str(dtype)) == dtype else None
    except (TypeError, NotImplementedError):
        return None

"""What counts as a table when a block exports it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from pipelines.io.errors import ExportRefused
from pipelines.io.frames import to_arrow

FRAME = pd.DataFrame({"a": [1, 2]})


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        ({"a": [1, 2]}, [{"a": 1}, {"a": 2}]),
        ({"a": 1, "b": None}, [{"a": 1, "b": None}]),  # such as the item of a dynamic block
        ({"a": [1, 2], "b": 3}, [{"a": 1, "b": 3}, {"a": 2, "b": 3}]),
        ([{"a": 1}, {"b": 2}], [{"a": 1, "b": None}, {"a": None, "b": 2}]),
        ([FRAME, pa.table({"a": [3]})], [{"a": 1}, {"a": 2}, {"a": 3}]),  # such as children return
        (
            [FRAME, pd.DataFrame({"b": ["x"]})],
            [{"a": 1, "b": None}, {"a": 2, "b": None}, {"a": None, "b": "x"}],
        ),
    ],
)
def test_rows_columns_and_lists_of_tables_are_tables(data: Any, rows: list[dict[str, Any]]) -> None:
    assert to_arrow(data).to_pylist() == rows


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"a": [1], "b": [1, 2]}, "All arrays must be of the same length"),
        ([FRAME, pd.DataFrame({"a": ["x"]})], "the tables of the list do not go together: .* a has"),
        ([FRAME, None], "cannot export a list"),
        ([], "an empty list has no columns"),
        ({}, "no columns"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(data: Any, said: str) -> None:
    with pytest.raises(ExportRefused, match=said):
        to_arrow(data)

"""Frames in and out of Arrow, without needless copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars
import pyarrow as pa

from pipelines.io.frames import give, to_arrow

ROWS = 200_000  # enough for the columns to be taken by several threads


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "whole": np.arange(ROWS),
            "real": np.arange(ROWS) / 2,
            "also_real": np.arange(ROWS) / 4,
            "moment": pd.date_range("2024-01-01", periods=ROWS, freq="s"),
            "text": pd.Series(["a", "bc"] * (ROWS // 2), dtype="str"),
            "some": pd.array([1, None] * (ROWS // 2), dtype="Int64"),
        }
    )


def _address(table: pa.Table, name: str) -> int:
    (chunk,) = table.column(name).chunks
    return int(chunk.buffers()[1].address)


def test_a_frame_of_pandas_is_taken_where_it_lies() -> None:
    frame = _frame()

    table = to_arrow(frame)

    for name in ("whole", "real", "also_real", "moment"):
        assert _address(table, name) == frame[name].to_numpy().ctypes.data, name
    text = pa.chunked_array(frame["text"].array.__arrow_array__())  # as pandas keeps it
    assert _address(table, "text") == text.chunk(0).buffers()[1].address
    assert table["some"].null_count == ROWS // 2


def test_an_arrow_table_and_a_frame_of_polars_are_not_copied() -> None:
    table = pa.table({"n": np.arange(ROWS)})
    frame = give(table, "polars")

    assert give(table, "arrow") is table
    assert _address(to_arrow(table), "n") == _address(table, "n")
    assert _address(to_arrow(frame), "n") == _address(table, "n")
    assert isinstance(frame, polars.DataFrame)


def test_a_frame_for_pandas_is_a_copy_that_may_be_changed() -> None:
    table = pa.table({"n": np.arange(3)})
    frame = give(table, "pandas")

    frame.loc[0, "n"] = 9

    assert table["n"].to_pylist() == [0, 1, 2]

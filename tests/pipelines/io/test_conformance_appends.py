"""What every connector of the registry takes beside rows that are there, on real parts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.io.errors import ExportRefused
from tests.pipelines.io.harnesses import Harness


@pytest.mark.parametrize(
    "values",
    [[1.5, 2.0], ["x", "2"], [True, False], [date(2024, 1, 1)] * 2],
    ids=["halves", "texts", "booleans", "dates"],
)
def test_values_of_another_type_are_not_appended_to_whole_numbers(
    harness: Harness, values: list[object]
) -> None:
    harness.export(pd.DataFrame({"a": [1, 2]}), "typed", **harness.append)

    with pytest.raises(ExportRefused, match=r"\ba\b"):
        harness.export(pd.DataFrame({"a": values}), "typed", **harness.append)

    assert sorted(harness.load("typed")["a"]) == [1, 2]


def test_whole_numbers_and_floats_join_each_other_in_the_type_that_is_there(harness: Harness) -> None:
    harness.export(pd.DataFrame({"whole": [1], "real": [1.5]}), "joined", **harness.append)
    harness.export(pd.DataFrame({"whole": [2.0, np.nan], "real": [2, 3]}), "joined", **harness.append)

    loaded = harness.load("joined", frame="dict")
    assert sorted(loaded["whole"], key=str) == [1, 2, None]
    assert sorted(loaded["real"]) == [1.5, 2.0, 3.0]
    assert all(isinstance(value, int | None) for value in loaded["whole"])


def test_moments_without_a_zone_and_dates_join_those_with_one_as_utc(harness: Harness) -> None:
    for moment in (datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 3, 31, 2), date(2024, 4, 1)):
        harness.export(pd.DataFrame({"at": [moment]}), "moments", **harness.append)

    assert sorted(harness.load("moments")["at"]) == [
        pd.Timestamp(text, tz="UTC") for text in ("2024-03-31 01:00", "2024-03-31 02:00", "2024-04-01")
    ]


def test_a_column_of_only_nulls_joins_every_type(harness: Harness) -> None:
    there = {
        "n": [1],
        "text": ["a"],
        "yes": [True],
        "day": [date(2024, 1, 1)],
        "at": [datetime(2024, 1, 1, tzinfo=UTC)],
        "facts": [{"a": 1}],
    }
    lacking: dict[str, Any] = {name: [None] for name in there}

    harness.export(pd.DataFrame({"row": [0], **there}), "lacking", **harness.append)
    harness.export(pd.DataFrame({"row": [1], **lacking}), "lacking", **harness.append)

    rows = sorted(harness.load("lacking", frame="list"), key=lambda row: row["row"])
    assert rows[1] == {"row": 1, **dict.fromkeys(there)}
    assert (rows[0]["n"], rows[0]["text"], rows[0]["day"]) == (1, "a", date(2024, 1, 1))


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_frame_without_rows_changes_nothing(harness: Harness, mode: str) -> None:
    if mode in harness.lacks:
        pytest.skip(harness.lacks[mode])
    options = harness.append if mode == "append" else {"if_exists": "merge", "keys": "a"}
    full = pa.table({"a": [1], "b": ["x"]})
    harness.export(full, "kept", **options)

    assert harness.export(full.slice(1), "kept", **options) == 0
    assert harness.export(full.slice(1).to_pandas(), "kept", **options) == 0
    assert harness.export(pa.RecordBatchReader.from_batches(full.schema, []), "kept", **options) == 0

    assert harness.rows("kept") == [{"a": 1, "b": "x"}]


def test_a_stream_without_rows_replaces_all_rows(harness: Harness) -> None:
    full = pa.table({"a": [1], "b": ["x"]})
    harness.export(full)

    assert harness.export(pa.RecordBatchReader.from_batches(full.schema, [])) == 0

    assert harness.load(frame="dict") == {"a": [], "b": []}

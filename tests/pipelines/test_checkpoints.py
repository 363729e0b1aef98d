"""Checkpoints give back what was stored: types, labels, indexes; or say that they cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipelines.checkpoints import Checkpoints
from pipelines.errors import CheckpointError, NotStorableError

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


LARGE = pd.DataFrame({"a": range(2000)})  # too large to lie in the manifest


@pytest.fixture(params=["in the manifest", "in files"])
def checkpoints(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Checkpoints:
    """Every value is to come back from either place, so small frames are put into files, too."""
    if request.param == "in files":
        monkeypatch.setattr("pipelines.checkpoints.INLINE_CELLS", -1)
    return Checkpoints(tmp_path / "checkpoints")


def test_a_small_frame_needs_no_file(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)

    manifest = checkpoints.save("run", "block", 1, (pd.DataFrame({"a": [1, 2]}), pd.Series(["x"], name="s")))

    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps(manifest)) == manifest
    frame, series = checkpoints.load(manifest)
    assert frame["a"].tolist() == [1, 2]
    assert series.name == "s"


def round_trip(checkpoints: Checkpoints, *outputs: Any, **options: Any) -> tuple[Any, ...]:
    manifest = checkpoints.save("run", "block", 1, outputs, **options)
    return checkpoints.load(json.loads(json.dumps(manifest)))


TYPED_COLUMNS = {
    "int64": [1, 2, 3],
    "uint8": [1, 2, 3],
    "float32": [1.5, np.nan, -np.inf],
    "float64": [1.5, np.nan, np.inf],
    "bool": [True, False, True],
    "Int64": [1, None, 3],
    "Float64": [1.5, None, 2.5],
    "boolean": [True, None, False],
    "str": ["a", None, "ü"],
    "string": ["a", None, "ü"],
    "datetime64[ns]": ["2024-01-01", None, "2024-01-02T03:04:05.123456789"],
    "datetime64[us]": ["2024-01-01", None, "2024-01-02"],
    "datetime64[s]": ["2024-01-01", None, "2024-01-02"],
    "datetime64[us, Europe/Berlin]": ["2024-01-01", None, "2024-07-02"],
    "datetime64[ns, UTC]": ["2024-01-01", None, "2024-07-02"],
    "timedelta64[us]": [1, None, 3],
    "category": ["b", "a", None],
    "period[M]": ["2024-01", "2024-02", "2024-03"],
    "int64[pyarrow]": [1, None, 3],
    "timestamp[us, tz=UTC][pyarrow]": [None, datetime(2024, 1, 1, tzinfo=UTC), None],
}


@pytest.mark.parametrize("dtype", TYPED_COLUMNS)
def test_a_column_keeps_its_type(checkpoints: Checkpoints, dtype: str) -> None:
    frame = pd.DataFrame({"x": pd.Series(TYPED_COLUMNS[dtype], dtype=dtype)})

    (loaded,) = round_trip(checkpoints, frame)

    pd.testing.assert_frame_equal(loaded, frame, check_exact=True)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.struct([("a", pa.int64())]),
        pa.dictionary(pa.int32(), pa.string()),
        pa.decimal128(9, 2),
        pa.null(),
    ],
    ids=str,
)
def test_a_column_of_a_type_of_arrows_keeps_it(checkpoints: Checkpoints, kind: pa.DataType) -> None:
    values = {"list": [[1], None, []], "struct": [{"a": 1}, None, {"a": 2}], "dictionary": ["x", None, "x"]}
    given = values.get(str(kind).partition("<")[0], [None, None, None])
    frame = pd.DataFrame(
        {"x": pd.Series(given, dtype=pd.ArrowDtype(kind)), "y": ["a", "b", "c"]}, index=[3, 1, 2]
    )

    (loaded,) = round_trip(checkpoints, frame)

    pd.testing.assert_frame_equal(loaded, frame, check_exact=True)


def test_columns_of_all_types_keep_them_side_by_side(checkpoints: Checkpoints) -> None:
    frame = pd.DataFrame({dtype: pd.Series(values, dtype=dtype) for dtype, values in TYPED_COLUMNS.items()})
    frame.insert(3, "objects", pd.Series([[1], None, {"a": 2}], dtype=object))

    (loaded,) = round_trip(checkpoints, frame)

    pd.testing.assert_frame_equal(loaded, frame, check_exact=True)


OBJECT_COLUMNS: dict[str, list[Any]] = {
    "text": ["a", None, "b"],
    "text and nan": ["a", float("nan"), None],
    "integers": [1, 2, 2**80],
    "mixed": [1, "a", None],
    "dates": [date(2024, 1, 1), None, date(2024, 1, 2)],
    "decimals": [Decimal("1.50"), None, Decimal("2.25")],
    "odd decimals": [Decimal("NaN"), Decimal("1E+50"), None],
    "bytes": [b"a", None, b"\xff"],
    "times": [time(1, 2), None, time(3, 4, 5)],
    "lists": [[1, "a"], [], None],
    "dictionaries": [{"a": 1}, {"b": [2]}, {}],
    "booleans": [True, None, False],
    "nothing": [None, None, None],
    "datetimes": [
        datetime(2024, 1, 1),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=BERLIN),
    ],
}


@pytest.mark.parametrize("kind", OBJECT_COLUMNS)
def test_an_object_column_keeps_its_objects(checkpoints: Checkpoints, kind: str) -> None:
    values = OBJECT_COLUMNS[kind]
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})

    (loaded,) = round_trip(checkpoints, frame)

    assert loaded["x"].dtype == object
    assert [(type(value), str(value)) for value in loaded["x"]] == [(type(v), str(v)) for v in values]


FRAMES: dict[str, pd.DataFrame] = {
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="Int64"), "b": pd.Series([], dtype=object)}),
    "no columns": pd.DataFrame(index=range(3)),
    "duplicate labels": pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    "integer labels": pd.DataFrame([[1, 2], [3, 4]]),
    "mixed labels": pd.DataFrame([[1, 2, 3]], columns=pd.Index(["a", 1, None], dtype=object)),
    "dates as labels": pd.DataFrame([[1, 2]], columns=pd.date_range("2024-01-01", periods=2, name="day")),
    "levels of labels": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["x", None])
    ),
    "named index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="a")),
    "stepped range": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(10, 14, 2, name="n")),
    "time index": pd.DataFrame(
        {"a": [1, 2]}, index=pd.DatetimeIndex(["2024-01-01", "2024-01-03"], tz=BERLIN)
    ),
    "levels": pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["k", "k2"])
    ),
    "filtered": pd.DataFrame({"a": range(10)}).query("a > 4"),
    "label like ours": pd.DataFrame({"__index_0": [1, 2]}, index=[5, 3]),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_keeps_its_labels_and_index(checkpoints: Checkpoints, kind: str) -> None:
    (loaded,) = round_trip(checkpoints, FRAMES[kind])

    pd.testing.assert_frame_equal(loaded, FRAMES[kind], check_freq=False, check_exact=True)


def test_a_frame_of_many_batches_and_scattered_columns_comes_back(checkpoints: Checkpoints) -> None:
    frame = pd.DataFrame(np.arange(400_000, dtype="float64").reshape(100_000, 4), columns=list("abcd"))
    frame["text"] = frame["a"].astype("str")

    (loaded,) = round_trip(checkpoints, frame)

    pd.testing.assert_frame_equal(loaded, frame)


def test_attributes_of_a_frame_are_kept(checkpoints: Checkpoints) -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = ("km", 2)

    (loaded,) = round_trip(checkpoints, frame)

    assert loaded.attrs == {"unit": ("km", 2)}


def test_series_tables_and_arrays_come_back(checkpoints: Checkpoints) -> None:
    series = pd.Series([1, 2], index=["x", "y"], name=("a", 1))
    table = pa.table({"a": [1, 2], "b": [["x"], None]})
    array = np.arange(6).reshape(2, 3)

    loaded_series, loaded_table, loaded_array = round_trip(checkpoints, series, table, array)

    pd.testing.assert_series_equal(loaded_series, series)
    assert loaded_table.equals(table)
    np.testing.assert_array_equal(loaded_array, array)


PLAIN = [
    None,
    True,
    1,
    2**70,
    1.5,
    float("inf"),
    "text",
    [],
    {},
    [1, [2]],
    {"a": {"b": None}},
    (1, (2,)),
    {1, 2},
    {1: "a"},
    {"$type": "tuple", "value": 1},
    b"\x00\xff",
    date(2024, 1, 1),
    time(1, 2, 3),
    timedelta(days=-1, microseconds=5),
    datetime(2024, 1, 1, 2, 3),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    Decimal("1.10"),
    UUID(int=7),
    np.int64(5),
    np.float32(1.5),
    np.bool_(True),
    np.datetime64("2024-01-01"),
    pd.Timestamp("2024-01-01T00:00:00.123456789"),
    pd.Timestamp("2024-07-01", tz="Europe/Berlin"),
    pd.Timedelta("1h"),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_a_plain_value_comes_back_as_it_was(checkpoints: Checkpoints, tmp_path: Path, value: Any) -> None:
    (loaded,) = round_trip(checkpoints, value)

    assert (type(loaded), loaded, repr(loaded)) == (type(value), value, repr(value))
    assert not (tmp_path / "checkpoints").exists()  # it is in the manifest


def test_not_a_number_and_missing_values_come_back(checkpoints: Checkpoints) -> None:
    nan, not_a_time, missing = round_trip(checkpoints, float("nan"), pd.NaT, pd.NA)

    assert type(nan) is float
    assert nan != nan
    assert not_a_time is pd.NaT
    assert missing is pd.NA


def test_frames_inside_of_containers_come_back(checkpoints: Checkpoints) -> None:
    parts = {"train": pd.DataFrame({"a": [1]}), "scores": [pd.Series([0.5])], "size": (1, 2)}

    (loaded,) = round_trip(checkpoints, parts)

    pd.testing.assert_frame_equal(loaded["train"], parts["train"])
    pd.testing.assert_series_equal(loaded["scores"][0], parts["scores"][0])
    assert loaded["size"] == (1, 2)


def test_large_plain_values_go_into_a_file(checkpoints: Checkpoints) -> None:
    records = [{"id": number, "name": f"name {number}"} for number in range(1000)]

    manifest = checkpoints.save("run", "block", 1, (records,))

    assert len(json.dumps(manifest)) < 500
    assert checkpoints.load(manifest) == (records,)


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize(
    "value",
    [Opaque(1), [Opaque(1)], pd.DataFrame({"a": [Opaque(1)]}), (number for number in range(3))],
    ids=["object", "in a list", "in a frame", "generator"],
)
def test_what_has_no_lossless_form_is_refused_and_leaves_nothing(
    checkpoints: Checkpoints, tmp_path: Path, value: Any
) -> None:
    with pytest.raises(NotStorableError):
        checkpoints.save("run", "block", 1, (pd.DataFrame({"a": [1]}), value))

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_any_object_is_stored_where_pickle_is_allowed(checkpoints: Checkpoints) -> None:
    number, frame = round_trip(checkpoints, Opaque(7), pd.DataFrame({"a": [Opaque(8)]}), allow_pickle=True)

    assert number.value == 7
    assert frame["a"][0].value == 8


def test_a_cut_or_missing_file_is_noticed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    manifest = checkpoints.save("run", "block", 1, (LARGE,))
    file = tmp_path / "checkpoints" / manifest["parts"][0]["file"]
    assert checkpoints.has(manifest)

    os.truncate(file, 10)

    assert not checkpoints.has(manifest)
    with pytest.raises(CheckpointError, match="missing or cut short"):
        checkpoints.load(manifest)


def test_two_saves_of_one_attempt_do_not_touch_each_other(checkpoints: Checkpoints) -> None:
    first = checkpoints.save("run", "block", 1, (LARGE,))
    second = checkpoints.save("run", "block", 1, (LARGE.head(1500),))

    assert len(checkpoints.load(first)[0]) == 2000
    assert len(checkpoints.load(second)[0]) == 1500


def test_discard_removes_a_run_and_no_other(checkpoints: Checkpoints) -> None:
    gone = checkpoints.save("run-1", "block", 1, (LARGE,))
    kept = checkpoints.save("run-2", "block", 1, (LARGE,))

    checkpoints.discard("run-1")

    assert not checkpoints.has(gone)
    assert checkpoints.has(kept)


def test_names_with_slashes_stay_inside_of_the_folder(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save("../up", "a/../../b", 1, (LARGE,))

    assert [path for path in tmp_path.iterdir()] == [tmp_path / "checkpoints"]


CRASHING = """
import sys
import pandas
from pathlib import Path
from pipelines.checkpoints import Checkpoints
from pipelines.crash import CrashPoints
checkpoints = Checkpoints(Path(sys.argv[1]), CrashPoints(sys.argv[2]))
checkpoints.save("run", "block", 1, (pandas.DataFrame({"a": range(2000)}),))
"""


@pytest.mark.parametrize(("point", "names"), [("before_rename", [".tmp"]), ("after_rename", [".arrow"])])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, point: str, names: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING, str(tmp_path), f"checkpoint.{point}"], check=False
    )

    assert ended.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == names

"""Streams: frames of any size and of drifting types go through one file, or are refused with the reason."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipelines.crash import CrashPoints
from pipelines.errors import CheckpointError
from pipelines.spooling import BATCH_BYTES, SpoolFailed, Spools
from pipelines.streams import Stream
from pipelines.unifying import TypesDiffer


class Desk:
    """Spools into a folder, and keeps what it was warned of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spools = Spools(folder, "load", 1, CrashPoints())
        self.warnings: list[str] = []

    def write(self, *frames: Any) -> Stream:
        return self.spools.write(iter(frames), self.warnings.append)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "run-1")


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_a_stream_is_read_any_number_of_times(desk: Desk) -> None:
    stream = desk.write(frame(a=[1, 2]), frame(a=[3]))

    assert [list(part["a"]) for part in stream] == [[1, 2, 3]]
    assert stream.to_pandas()["a"].tolist() == [1, 2, 3]
    assert stream.reader().read_all().to_pydict() == {"a": [1, 2, 3]}
    assert pl.DataFrame(stream)["a"].to_list() == [1, 2, 3]
    assert (stream.num_rows, len(stream), stream.column_names) == (3, 3, ["a"])
    assert len(desk.files) == 1


def test_batches_are_cut_and_joined_to_one_size(desk: Desk) -> None:
    large = frame(a=np.arange(3 * BATCH_BYTES // 8))
    small = [frame(a=np.arange(1000)) for _ in range(50)]

    sizes = [batch.nbytes for batch in desk.write(large, *small).batches()]

    assert len(sizes) == 4
    assert max(sizes) <= BATCH_BYTES * 1.1


DRIFTS: dict[str, tuple[Any, Any, Any]] = {
    "nothing, then text": ([None, None], ["x", None], pa.large_string()),
    "nan, then text": ([np.nan, np.nan], ["x", None], pa.large_string()),
    "nothing, then lists": ([None], [[1]], pa.json_()),
    "integers, then fractions": ([1, 2], [1.5, None], pa.float64()),
    "narrow, then wide": (np.array([1], "int8"), np.array([2], "int64"), pa.int64()),
    "signed and not": (np.array([1], "int8"), np.array([200], "uint8"), pa.int16()),
    "decimals": ([Decimal("1.5")], [Decimal("100.25")], pa.decimal128(5, 2)),
    "seconds, then nanoseconds": (
        pd.array(["2024-01-01"], "datetime64[s]"),
        pd.array(["2024-01-01T00:00:00.123456789"], "datetime64[ns]"),
        pa.timestamp("ns"),
    ),
    "categories of their own": (
        pd.Categorical(["a", "b"]),
        pd.Categorical(["c"]),
        pa.dictionary(pa.int8(), pa.large_string()),
    ),
    "categories, then text": (pd.Categorical(["a"]), ["b"], pa.large_string()),
}


@pytest.mark.parametrize("kind", DRIFTS)
def test_types_that_one_type_holds_become_that_one(desk: Desk, kind: str) -> None:
    first, second, expected = DRIFTS[kind]

    stream = desk.write(frame(x=first), frame(x=second))

    assert stream.schema.field("x").type == expected
    values = [None if pd.isna(value) is True else value for value in stream.to_pandas()["x"]]
    assert values == [None if pd.isna(value) is True else value for value in [*first, *second]]
    assert len({str(part["x"].dtype) for part in stream}) == 1


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "numbers, then text": ([1], ["a"], "column 'x' is int64 in frame 1, and text in frame 3"),
    "zones": (
        pd.array(["2024-01-01"], "datetime64[us]"),
        pd.array(["2024-01-01"], "datetime64[us, UTC]"),
        r"timestamp\[us\] in frame 1, and timestamp\[us, tz=UTC\] in frame 3",
    ),
    "large integers, then fractions": ([2**60 + 1], [0.5], "'x' is int64 in the frames before frame 3"),
    "fractions, then large integers": ([0.5], [2**60 + 1], "frame 3 holds values that do not fit"),
    "lists, then numbers": ([[1]], [1], "extension<arrow.json> in frame 1, and int64 in frame 3"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_types_without_one_that_holds_both_are_refused_with_place_and_types(desk: Desk, kind: str) -> None:
    first, second, said = REFUSED[kind]

    with pytest.raises(TypesDiffer, match=said):
        desk.write(frame(x=first), frame(x=first), frame(x=second))

    assert desk.files == []


def test_columns_that_come_and_go_are_null_where_they_lack_and_told_of(desk: Desk) -> None:
    stream = desk.write(frame(a=[1], b=[1]), frame(b=[2], a=[2]), frame(a=[3], c=["x"]), frame(a=[4]))

    assert stream.to_arrow().to_pylist() == [
        {"a": 1, "b": 1, "c": None},
        {"a": 2, "b": 2, "c": None},
        {"a": 3, "b": None, "c": "x"},
        {"a": 4, "b": None, "c": None},
    ]
    assert [warning.partition(",")[0] for warning in desk.warnings] == [
        "frame 3 has no column 'b'",
        "frame 3 has a column 'c'",
    ]
    assert [str(part["b"].dtype) for part in stream] == ["Int64"] * len(list(stream))


KEPT = {
    "Int64": [1, 2],
    "int32": [1, 2],
    "float32": [1.5, 2.5],
    "boolean": [True, False],
    "bool": [True, False],
    "str": ["a", "b"],
    "string": ["a", "b"],
    "datetime64[ns]": ["2024-01-01", "2024-01-02"],
    "datetime64[us, Europe/Berlin]": ["2024-01-01", "2024-01-02"],
    "timedelta64[us]": [1, 2],
    "category": ["a", "b"],
    "period[M]": ["2024-01", "2024-02"],
    "int64[pyarrow]": [1, 2],
}


def test_dtypes_of_frames_are_kept(desk: Desk) -> None:
    given = pd.DataFrame({dtype: pd.Series(values, dtype=dtype) for dtype, values in KEPT.items()})
    given["objects"] = pd.Series([[1], {"a": None}], dtype=object)
    given["ids"] = pd.Series([UUID(int=1), None], dtype=object)
    given["decimals"] = pd.Series([Decimal("1.5"), None], dtype=object)

    (loaded,) = desk.write(given)

    pd.testing.assert_frame_equal(loaded, given, check_exact=True)


def test_an_index_is_kept_unless_it_only_numbers_rows(desk: Desk) -> None:
    days = pd.date_range("2024-01-01", periods=2, name="day", unit="us")
    named = frame(a=[1, 2]).set_index(days)
    levels = frame(a=[1]).set_index(pd.MultiIndex.from_tuples([("x", 1)], names=["k", None]))
    filtered = frame(a=range(10)).query("a > 7")

    assert desk.write(named).schema.names == ["a"]
    pd.testing.assert_frame_equal(desk.write(named).to_pandas(), named, check_freq=False)
    pd.testing.assert_frame_equal(desk.write(levels).to_pandas(), levels)
    assert desk.write(named).reader(index=True).schema.names == ["day", "a"]
    assert desk.write(filtered).to_pandas().index.tolist() == [0, 1]
    with pytest.raises(TypesDiffer, match=r"index of frame 2 has the levels \[\], and \['day'\]"):
        desk.write(named, filtered)


@pytest.mark.parametrize(
    "given",
    [
        pa.table({"a": [1, 2], "b": ["x", None]}),
        pa.record_batch({"a": [1, 2], "b": ["x", None]}),
        pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        {"a": [1, 2], "b": ["x", None]},
        [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    ],
    ids=["table", "batch", "polars", "columns", "rows"],
)
def test_frames_of_every_kind_go_in(desk: Desk, given: Any) -> None:
    stream = desk.write(given, given)

    assert stream.to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}] * 2


def test_a_stream_without_rows_has_the_columns_of_its_frames(desk: Desk) -> None:
    assert desk.write(pa.schema([("a", pa.int8())]).empty_table()).schema.field("a").type == pa.int8()
    assert desk.write().schema.names == []
    assert desk.write(pd.DataFrame(), frame(a=[1])).to_arrow().to_pydict() == {"a": [1]}


def test_what_stands_for_a_frame_by_mistake_is_told_what_to_do(desk: Desk) -> None:
    stream: Any = desk.write(frame(a=[1]))

    for misuse in (lambda: stream.groupby("a"), lambda: stream["a"], lambda: stream.__setitem__("b", 1)):
        with pytest.raises((AttributeError, TypeError), match=r"this is a Stream.*\.to_pandas\(\)"):
            misuse()
    assert not hasattr(stream, "columns")


def test_an_error_among_the_frames_comes_out_and_leaves_no_file(desk: Desk) -> None:
    def frames() -> Iterator[pd.DataFrame]:
        yield frame(a=np.arange(BATCH_BYTES // 4))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        desk.spools.write(frames(), desk.warnings.append)

    assert desk.files == []


def test_a_full_disk_is_told_in_a_sentence_and_leaves_no_half_file(desk: Desk) -> None:
    noise = np.random.default_rng(1).random(BATCH_BYTES // 4)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BATCH_BYTES, hard))
    try:
        with pytest.raises(SpoolFailed, match=r"could not be written to .*: File too large\. .*make room"):
            desk.write(frame(a=noise), frame(a=noise))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert desk.files == []


def test_half_files_of_killed_attempts_go_when_the_next_one_begins(desk: Desk) -> None:
    desk.folder.mkdir()
    half, other = desk.folder / "load.1.00c0ffee.stream.tmp", desk.folder / "load.me.1.00c0ffee.stream.tmp"
    half.touch()
    other.touch()

    desk.write(frame(a=[1]))

    assert not half.exists()
    assert other.exists()


def test_a_failed_block_takes_its_streams_with_it(desk: Desk) -> None:
    stream = desk.write(frame(a=[1]))

    desk.spools.withdraw()

    assert desk.files == []
    with pytest.raises(CheckpointError, match="cannot be read"):
        list(stream)


def test_thousands_of_small_frames_make_few_batches(desk: Desk) -> None:
    def frames() -> Iterable[Any]:
        for number in range(2_000):
            yield pa.table({"a": [number]})

    stream = desk.spools.write(frames(), desk.warnings.append)

    assert stream.num_rows == 2_000
    assert len(list(stream.batches())) == 1

"""What only Files does: formats, datasets, and appearing whole."""

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.io import Files
from pipelines.io.errors import ConnectorError, ExportRefused, UnreadableFile
from tests.pipelines.io.projects import running_block, write_profiles

TRIPS = pd.DataFrame(
    {
        "id": [1, 2, 3],
        "day": [date(2020, 10, 1), date(2020, 10, 2), None],
        "seats": pd.array([1, None, 3], dtype="Int64"),
        "note": ["a", None, 'ü, "x"'],
    }
)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.from_profile(write_profiles(tmp_path, default={"FILES_ROOT": "lake"}).profile())


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.json", "t.json.gz", "t.jsonl", "t.ndjson.gz", "t.parquet", "t.xlsx"]
)
def test_each_format_is_told_by_its_ending(files: Files, tmp_path: Path, name: str) -> None:
    assert files.export(TRIPS[["id", "seats", "note"]], f"deep/{name}") == 3

    loaded = files.load(f"deep/{name}")
    assert loaded["id"].tolist() == [1, 2, 3]
    assert loaded["seats"].isna().tolist() == [False, True, False]
    assert loaded["note"][2] == 'ü, "x"'
    assert [path.name for path in (tmp_path / "lake" / "deep").iterdir()] == [name]
    if name.endswith(".gz"):
        gzip.decompress((tmp_path / "lake" / "deep" / name).read_bytes())


def test_options_go_to_the_reader_and_the_writer(files: Files) -> None:
    files.export(TRIPS, "t.csv", sep=";")

    loaded = files.load("t.csv", sep=";", dtype={"seats": "Int64"}, parse_dates=["day"])
    assert loaded["seats"].tolist() == [1, pd.NA, 3]
    assert str(loaded["day"].dtype).startswith("datetime64")


def test_the_same_rows_give_the_same_bytes(files: Files, tmp_path: Path) -> None:
    first, second = (
        (files.export(TRIPS, "t.csv.gz"), (tmp_path / "lake/t.csv.gz").read_bytes())[1] for _ in range(2)
    )
    assert first == second


def test_a_dataset_keeps_the_types_of_its_partitions(files: Files, tmp_path: Path) -> None:
    files.export(TRIPS, "trips", partition_cols=["day"])

    assert (tmp_path / "lake" / "trips" / "day=2020-10-01" / "part-0.parquet").is_file()
    loaded = files.load("trips").sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(loaded[TRIPS.columns.tolist()], TRIPS)


def test_replacing_a_dataset_leaves_no_old_partition(files: Files, tmp_path: Path) -> None:
    files.export(TRIPS, "trips", partition_cols="day")

    files.export(TRIPS.iloc[:1], "trips", partition_cols="day")

    assert files.load("trips")["id"].tolist() == [1]
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["trips"]


@pytest.mark.parametrize("path", [".", "raw"])
def test_a_dataset_takes_the_place_of_no_other_files(files: Files, tmp_path: Path, path: str) -> None:
    (tmp_path / "lake" / "raw" / "notes").mkdir(parents=True)
    note = tmp_path / "lake" / "raw" / "notes" / "day.parquet"
    note.write_text("keep me")

    with pytest.raises(ExportRefused, match=r"it holds .*notes/day\.parquet, which would be lost"):
        files.export(TRIPS, path, partition_cols="day")

    assert note.read_text() == "keep me"


def test_a_dataset_that_pyarrow_has_written_can_be_replaced(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "lake" / "trips"
    pq.write_to_dataset(pa.table({"id": [9], "day": ["2020-10-01"]}), root, partition_cols=["day"])

    files.export(TRIPS, "trips", partition_cols="day")

    assert sorted(files.load("trips")["id"]) == sorted(TRIPS["id"])


def test_an_appended_dataset_is_there_once_after_another_try(files: Files, tmp_path: Path) -> None:
    for run in ("run-1", "run-1", "run-2"):
        with running_block(tmp_path, run_id=run):
            files.export(TRIPS, "trips", partition_cols="day", if_exists="append")

    assert len(files.load("trips")) == 6


def test_an_append_that_cannot_place_a_file_leaves_the_old_rows(files: Files, tmp_path: Path) -> None:
    files.export(TRIPS[:1], "trips", partition_cols="day")
    (tmp_path / "lake" / "trips" / "day=2020-10-02").touch()  # in the way of a folder

    with pytest.raises(ExportRefused, match=r"cannot write .*trips: .*day=2020-10-02"):
        files.export(TRIPS, "trips", partition_cols="day", if_exists="append")

    (tmp_path / "lake" / "trips" / "day=2020-10-02").unlink()
    assert files.load("trips")["id"].tolist() == [1]


def test_a_part_of_a_file_and_of_a_dataset_is_asked_for_alike(files: Files) -> None:
    files.export(TRIPS, "trips", partition_cols="day")
    files.export(TRIPS, "trips.parquet")

    for name in ("trips", "trips.parquet"):
        part = {"columns": ["id"], "filters": [("id", ">", 2)]}
        assert files.load(name, frame="dict", **part) == {"id": [3]}
        assert files.stream(name, **part).read_all().to_pydict() == {"id": [3]}


def test_a_dataset_without_rows_still_has_columns(files: Files) -> None:
    files.export(TRIPS.iloc[:0], "trips", partition_cols="day")

    assert sorted(files.load("trips").columns) == sorted(TRIPS.columns)


def test_a_failed_export_leaves_the_old_file_and_nothing_beside_it(files: Files, tmp_path: Path) -> None:
    files.export(TRIPS, "t.parquet")

    with pytest.raises(ExportRefused, match="mixes int and str"):
        files.export(pd.DataFrame({"a": [1, "x"]}), "t.parquet")
    with pytest.raises(ExportRefused, match=r"cannot write .*t\.xlsx: Excel does not support"):
        files.export(pd.DataFrame({"at": pd.to_datetime(["2020-01-01"], utc=True)}), "t.xlsx")

    assert len(files.load("t.parquet")) == 3
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["t.parquet"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet", "t.xlsx"])
def test_a_cut_file_is_said_to_be_unreadable(files: Files, tmp_path: Path, name: str) -> None:
    files.export(TRIPS, name)
    path = tmp_path / "lake" / name
    path.write_bytes(path.read_bytes()[:-25])

    with pytest.raises(UnreadableFile, match=f"{name} cannot be read"):
        files.load(name)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_record_that_ends_behind_a_quoted_line_end_is_not_cut(
    files: Files, tmp_path: Path, name: str
) -> None:
    (tmp_path / "lake").mkdir()
    text = b'id,note,x\n+1,"first line\nsecond",3'  # the plus sign is one that only pandas reads
    (tmp_path / "lake" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)

    assert files.load(name).to_dict("list") == {"id": [1], "note": ["first line\nsecond"], "x": [3]}

    text = text[:-2]  # without its last field
    (tmp_path / "lake" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(UnreadableFile, match="2 of 3 fields"):
        files.load(name)


def test_moments_are_written_alike_in_all_batches(files: Files, tmp_path: Path) -> None:
    schema = pa.schema([("at", pa.timestamp("us")), ("n", pa.int64())])
    days, hours = (
        pa.record_batch([pa.array([moment]).cast(pa.timestamp("us")), pa.array([1])], schema=schema)
        for moment in (datetime(2024, 1, 1), datetime(2024, 1, 2, 10, 30))
    )

    files.export(pa.RecordBatchReader.from_batches(schema, [days, hours]), "t.csv")

    text = "at,n\n2024-01-01 00:00:00.000000,1\n2024-01-02 10:30:00.000000,1\n"
    assert (tmp_path / "lake" / "t.csv").read_text() == text
    assert files.load("t.csv", parse_dates=["at"])["at"].dtype.kind == "M"

    files.export(pa.RecordBatchReader.from_batches(schema, [days, hours]), "t.csv", date_format="%d.%m.")
    assert (tmp_path / "lake" / "t.csv").read_text() == "at,n\n01.01.,1\n02.01.,1\n"


def test_a_hexadecimal_text_far_behind_the_beginning_stays_a_text(files: Files, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    rows = "".join(f"{number},{number}\n" for number in range(200_000))  # more than a block of the reader
    (tmp_path / "lake" / "t.csv").write_text(f"id,code\n{rows}200000,0x1F\n")

    assert files.load("t.csv")["code"].iloc[-1] == "0x1F"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.csv", r"there is no .*none\.csv.*FILES_ROOT of profile 'default'"),
        ("../secret.csv", r"leaves the folder of profile 'default'"),
        ("http://example.org/t.csv", r"is an address"),
        ("trips.tsvv", r"does not tell its format"),
    ],
)
def test_a_path_that_will_not_do_is_explained(files: Files, path: str, said: str) -> None:
    with pytest.raises(ConnectorError, match=said):
        files.load(path)


def test_a_file_takes_no_append_and_a_dataset_no_other_columns(files: Files) -> None:
    with pytest.raises(ExportRefused, match="cannot append to the file"):
        files.export(TRIPS, "t.csv", if_exists="append")
    files.export(TRIPS, "trips", partition_cols="day")
    with pytest.raises(ExportRefused, match="differ in extra"):
        files.export(TRIPS.assign(extra=1), "trips", partition_cols="day", if_exists="append")


def test_sql_runs_over_files(files: Files) -> None:
    files.export(TRIPS, "t.parquet")

    assert files.execute("SELECT * FROM 't.parquet' WHERE id >= :low", low=2) == 2

"""What every connector of the registry promises, on real parts."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipelines.io
from pipelines.io import CONNECTORS, DuckDB
from pipelines.io.base import Connector
from pipelines.io.config import ProfileError
from pipelines.io.errors import ConnectorError, ExportRefused, QueryFailed, TargetExists
from pipelines.io.sqlalchemy.connector import AlchemyConnector
from tests.pipelines.io.harnesses import HARNESSES, UNTRIED, Harness
from tests.pipelines.io.projects import running_block, write_profiles

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")

# One column of each kind; in each the second value is missing.
COLUMNS = {
    "whole": pd.array([1, None, 3], dtype="Int64"),
    "real": [1.5, None, -2e300],
    "endless": [1.5, None, float("inf")],
    "yes_or_no": pd.array([True, None, False], dtype="boolean"),
    "text": ["", None, 'ü "quoted",\n\\N \\.'],
    "moment": pd.to_datetime(["2020-01-01 00:00:00.123456", None, "1969-01-01 00:00:00.000000"]),
    "moment_somewhere": pd.to_datetime(["2020-01-01", None, "2020-07-01"]).tz_localize("Europe/Berlin"),
    "day": [date(2020, 1, 1), None, date(1900, 1, 1)],
    "hour": [time(1, 2, 3, 4), None, time(0)],
    "money": [Decimal("1.20"), None, Decimal("12345678901234567890.05")],
    "facts": [{"a": [1, None, "ü"], "b": {}}, None, [1, 2]],
    "raw": [b"\x00\xff", None, b""],
    "id": [SOME_ID, None, SOME_ID],
    "span": pd.to_timedelta(["1 day 00:00:01.5", None, "-2h"]),
}


def _plain(values: pd.Series) -> list[object]:
    """Return values that compare: missing ones as None, moments in UTC."""
    plain = [None if _is_missing(value) else value for value in values.tolist()]
    return [value.tz_convert("UTC") if getattr(value, "tzinfo", None) else value for value in plain]


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def test_each_connector_of_the_registry_has_a_harness() -> None:
    assert set(HARNESSES) | set(UNTRIED) == set(CONNECTORS)
    assert not set(HARNESSES) & set(UNTRIED)


def test_the_package_gives_each_connector_by_name_and_nothing_else() -> None:
    for name in CONNECTORS:
        assert issubclass(getattr(pipelines.io, name), Connector)

    with pytest.raises(AttributeError, match="NoSuch"):
        _ = pipelines.io.NoSuch


def test_values_and_missing_values_come_back_as_they_were(harness: Harness) -> None:
    left_out = {*harness.refuses, *harness.lacks}
    taken = {name: values for name, values in COLUMNS.items() if name not in left_out}
    frame = pd.DataFrame({**taken, "row": [0, 1, 2]})

    assert harness.export(frame) == 3

    loaded = harness.load().sort_values("row", ignore_index=True)
    assert {name: _plain(loaded[name]) for name in taken} == {
        name: _changed(harness, name, _plain(frame[name])) for name in taken
    }
    for name in harness.refuses:
        with pytest.raises(ExportRefused, match=name):
            harness.export(pd.DataFrame({name: COLUMNS[name]}), "refused")


def _changed(harness: Harness, name: str, values: list[object]) -> list[object]:
    _, change = harness.changes.get(name, ("", lambda value: value))
    return [None if value is None else change(value) for value in values]


def test_types_come_back_as_they_were(harness: Harness) -> None:
    frame = pd.DataFrame(
        {
            "whole": [1, 2],
            "some": pd.array([1, None], dtype="Int64"),
            "maybe": pd.array([True, None], dtype="boolean"),
            "yes": [True, False],
            "real": [0.5, np.nan],
            "text": ["a", None],
            "small": np.array([1, 2], dtype="int32"),
        }
    )

    harness.export(frame)

    loaded = harness.load()
    assert {name: str(kind) for name, kind in loaded.dtypes.items()} == {
        "whole": "int64",
        "some": "Int64",
        "maybe": "boolean",
        "yes": "bool",
        "real": "float64",
        "text": "str",
        "small": "int64" if "small" in harness.lacks else "int32",
    }


def test_moments_keep_their_zone_or_have_none(harness: Harness) -> None:
    moment = datetime(2024, 3, 31, 1, 30, tzinfo=UTC)
    frame = pd.DataFrame({"plain": [moment.replace(tzinfo=None)], "aware": [moment]})

    harness.export(frame)

    loaded = harness.load()
    assert loaded["plain"].dt.tz is None
    assert loaded["aware"].dt.tz is not None
    assert loaded["aware"][0] == moment


def test_a_column_of_only_nulls_survives(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1, 2], "nothing": [None, None]}))

    assert harness.load()["nothing"].isna().all()


def test_a_frame_without_rows_leaves_its_columns(harness: Harness) -> None:
    assert (
        harness.export(pd.DataFrame({"a": pd.Series([], dtype="int64"), "b": pd.Series([], dtype="str")}))
        == 0
    )

    loaded = harness.load()
    assert list(loaded.columns) == ["a", "b"]
    assert len(loaded) == 0


def test_names_are_taken_as_they_are(harness: Harness) -> None:
    names = ["VendorID", "a b", "select", "größe"]
    names += [] if "quotes" in harness.lacks else ['say "hi"']

    harness.export(pd.DataFrame([range(len(names))], columns=names), "Odd Name")

    assert list(harness.load("Odd Name").columns) == names


def test_a_loaded_frame_may_be_changed(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": pd.array([1, None], dtype="Int64")}))

    loaded = harness.load()
    loaded.loc[0, "a"] = 9
    loaded.loc[0, "b"] = 9.5
    loaded.loc[1, "c"] = 9

    assert loaded.iloc[0].tolist()[:2] == [9, 9.5]


def _forms() -> dict[str, object]:
    """Return one table in every form that a block may return, some of them for one pass."""
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    return {
        "pandas": table.to_pandas(),
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(max_chunksize=1),
        "polars": polars.from_arrow(table),
        "lazy": polars.from_arrow(table).lazy(),
        "dictionaries": table.to_pylist(),
        "columns": table.to_pydict(),
        "frames": (table.slice(row, 1).to_pandas() for row in (0, 1)),
        "dictionary": pa.table({"a": [1, 2], "b": table["b"].dictionary_encode()}),
    }


def test_every_form_of_a_table_is_exported(harness: Harness) -> None:
    expected = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    found = {}

    for form, data in _forms().items():
        written = harness.export(data)
        found[form] = (written, harness.load(frame="arrow").to_pylist())

    assert found == {form: (2, expected) for form in _forms()}
    assert harness.export(pd.Series([1, 2], name="a")) == 2


def test_rows_are_loaded_as_the_frame_that_is_asked_for(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1, 2], "b": ["x", None]}))

    assert isinstance(harness.load(), pd.DataFrame)
    assert harness.load(frame="arrow").schema.field("a").type == pa.int64()
    assert harness.load(frame="polars")["b"].to_list() == ["x", None]
    assert harness.load(frame="list") == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert harness.load(frame="dict") == {"a": [1, 2], "b": ["x", None]}
    with pytest.raises(ConnectorError, match="frame='table' is not known; use one of 'pandas'"):
        harness.load(frame="table")
    streamed = harness.made().stream(harness.query("trips"))
    assert isinstance(streamed, pa.RecordBatchReader)
    assert streamed.read_all().to_pydict() == {"a": [1, 2], "b": ["x", None]}


def test_a_stream_goes_from_one_target_to_another_in_batches(harness: Harness) -> None:
    rows = 30_000
    harness.export(({"n": np.arange(start, start + 10_000)} for start in range(0, rows, 10_000)), "many")

    assert harness.export(harness.made().stream(harness.query("many")), "copied") == rows

    copied = harness.load("copied", frame="arrow")["n"]
    assert (len(copied), pc.sum(copied).as_py()) == (rows, sum(range(rows)))


def test_a_connector_that_reads_a_stream_says_that_it_does_nothing_else(harness: Harness) -> None:
    if not isinstance(harness.made(), DuckDB | AlchemyConnector):
        pytest.skip("its streams have a connection of their own, or none")
    harness.export(pd.DataFrame({"a": [1]}))

    for connector in (harness.made(), harness.made().__enter__()):
        batches = connector.stream(harness.query("trips"))
        with pytest.raises(ConnectorError, match=r"still reads a stream .*a connector of its own"):
            connector.execute("SELECT 1")
        assert batches.read_all()["a"].to_pylist() == [1]
        assert connector.load("SELECT 1 AS b")["b"].tolist() == [1]
        connector.close()


def test_a_frame_of_300_columns_comes_back(harness: Harness) -> None:
    kinds: list[Any] = [1, 1.5, "text", True, date(2024, 1, 1), datetime(2024, 1, 1)]
    frame = pd.DataFrame({f"c{place}": [kinds[place % len(kinds)]] * 2 for place in range(300)})

    harness.export(frame)

    assert harness.load(frame="arrow").to_pylist() == pa.Table.from_pandas(frame).to_pylist()


STOPS = pa.list_(pa.struct([("at", pa.string()), ("days", pa.list_(pa.int64()))]))
NESTED = pa.table(
    {
        "row": [0, 1],
        "stops": pa.array([[{"at": "ü", "days": [1, 2]}, {"at": None, "days": []}], []], STOPS),
        "who": [{"name": "x", "tags": ["a", "b"]}, {"name": None, "tags": []}],
        "numbers": pa.array([[1, 2], [3]], pa.list_(pa.int64())),
    }
)


@pytest.mark.parametrize("form", ["arrow", "pandas", "polars", "streamed"])
def test_lists_of_structures_come_back(harness: Harness, form: str) -> None:
    forms: dict[str, Any] = {
        "arrow": NESTED,
        "pandas": NESTED.to_pandas(),
        "polars": polars.from_arrow(NESTED),
        "streamed": NESTED.to_reader(max_chunksize=1),
    }

    harness.export(forms[form])

    loaded = sorted(harness.load(frame="list"), key=lambda row: row["row"])
    assert [{name: _decoded(value) for name, value in row.items()} for row in loaded] == NESTED.to_pylist()


def _decoded(value: object) -> object:
    """Return what was nested; where a database has no JSON, it is a text."""
    return json.loads(value) if isinstance(value, str) else value


def test_a_number_that_lacks_among_nested_ones_is_null(harness: Harness) -> None:
    frame = pa.table({"facts": [{"n": [1.5, None]}]}).to_pandas()  # pandas has NaN in its place

    harness.export(frame)

    (row,) = harness.load(frame="list")
    assert _decoded(row["facts"]) == {"n": [1.5, None]}


def test_merge_updates_rows_of_the_same_key_and_adds_the_others(harness: Harness) -> None:
    if "merge" in harness.lacks:
        pytest.skip(harness.lacks["merge"])
    first = pd.DataFrame({"id": ["a", "b"], "n": [1, 2]})
    second = pd.DataFrame({"id": ["b", "c"], "n": [20, 30]})

    harness.export(first, if_exists="merge", keys="id")
    assert harness.export(second, if_exists="merge", keys="id") == 2
    assert [row["n"] for row in harness.rows()] == [1, 20, 30]

    harness.export(
        pd.DataFrame({"id": ["a", "d"], "n": [9, 40]}),
        if_exists="append",
        unique_constraints=["id"],
        unique_conflict_method="IGNORE",
    )
    assert [row["n"] for row in harness.rows()] == [1, 20, 30, 40]
    with pytest.raises(ExportRefused, match=r"id='x' is there 2 times"):
        harness.export(pd.DataFrame({"id": ["x", "x"], "n": [1, 2]}), if_exists="merge", keys=["id"])
    with pytest.raises(ExportRefused, match="lacks the key column 'id'"):
        harness.export(pd.DataFrame({"n": [1]}), if_exists="merge", keys=["id"])
    assert len(harness.rows()) == 4


def test_values_are_bound_and_statements_run(harness: Harness) -> None:
    if "sql" in harness.lacks:
        pytest.skip(harness.lacks["sql"])
    harness.export(pd.DataFrame({"a": [1, 2, 3], "b": ["x", "it's", None]}))
    table = harness.query("trips").removeprefix("SELECT * FROM ")

    with harness.made() as connector:
        found = connector.load(f"SELECT a FROM {table} WHERE b = :b AND b NOT LIKE '%:b%'", b="it's")
        touched = connector.execute(
            f"UPDATE {table} SET a = a + :m WHERE a > 0; DELETE FROM {table} WHERE a > :most", m=10, most=12
        )

    assert found["a"].tolist() == [2]
    assert touched == 1
    assert len(harness.load(limit=1)) == 1
    with pytest.raises(QueryFailed):
        harness.made().execute(f"DELETE FROM {table} WHERE a > 0; DELETE FROM nowhere WHERE a > 0")
    assert sorted(harness.load()["a"]) == [11, 12]


def test_replace_takes_the_place_of_the_old_rows(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1, 2]}))

    harness.export(pd.DataFrame({"a": ["x"], "b": [1]}))

    assert harness.load().to_dict("records") == [{"a": "x", "b": 1}]


def test_append_adds_rows(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1]}), "added", **harness.append)
    harness.export(pd.DataFrame({"a": [2]}), "added", **harness.append)

    assert sorted(harness.load("added")["a"]) == [1, 2]


def test_append_refuses_other_columns_and_names_them(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1], "b": [1]}), "strict", **harness.append)

    with pytest.raises(ExportRefused, match=r"strict.*'?surplus"):
        harness.export(pd.DataFrame({"a": [1], "b": [1], "surplus": [1]}), "strict", **harness.append)
    with pytest.raises(ExportRefused, match=r"strict.*'?b"):
        harness.export(pd.DataFrame({"a": [1]}), "strict", **harness.append)
    assert len(harness.load("strict")) == 1


def test_fail_refuses_a_target_that_exists(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1]}), if_exists="fail")

    with pytest.raises(TargetExists, match="trips"):
        harness.export(pd.DataFrame({"a": [2]}), if_exists="fail")
    assert harness.load()["a"].tolist() == [1]


def test_a_column_of_two_types_is_refused_and_the_old_rows_stay(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1]}))

    with pytest.raises(ExportRefused, match=r"'a' mixes int and str: row 1 holds 'two'"):
        harness.export(pd.DataFrame({"a": [1, "two"]}))
    assert harness.load()["a"].tolist() == [1]


def test_what_is_no_table_is_refused_with_a_sentence(harness: Harness) -> None:
    with pytest.raises(ExportRefused, match="no columns"):
        harness.export(pd.DataFrame())
    with pytest.raises(ExportRefused, match="more than one column named 'a'"):
        harness.export(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ExportRefused, match="cannot export a int"):
        harness.export(42)


def test_a_word_that_is_no_policy_is_refused(harness: Harness) -> None:
    with pytest.raises(ExportRefused, match=r"if_exists='overwrite' is not known; use one of 'replace'"):
        harness.export(pd.DataFrame({"a": [1]}), if_exists="overwrite")


def test_a_missing_key_of_the_profile_is_named(harness: Harness) -> None:
    if harness.required_key is None:
        pytest.skip("this connector has a default for every key")
    keys = {key: value for key, value in harness.keys.items() if key != harness.required_key}
    profile = write_profiles(harness.root, default={**keys, "OTHER": 1}).profile()

    with pytest.raises(ProfileError, match=rf"profile 'default'.*lacks {harness.required_key}"):
        harness.connector.from_profile(profile)


def test_a_profile_is_named_only_inside_a_block(harness: Harness) -> None:
    with pytest.raises(ConnectorError, match="only inside a running block"):
        harness.connector.from_profile("default")

    with running_block(harness.root):
        assert isinstance(harness.connector.from_profile("default"), harness.connector)


def test_one_connection_serves_all_calls_inside_with(harness: Harness) -> None:
    with harness.made() as connector:
        connector.export(pd.DataFrame({"a": [1]}), *harness.target("one"))
        loaded = connector.load(harness.query("one"))

    assert loaded["a"].tolist() == [1]

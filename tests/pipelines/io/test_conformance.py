"""What every connector of the registry promises, on real parts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import pipelines.io
from pipelines.io import CONNECTORS
from pipelines.io.base import Connector
from pipelines.io.config import ProfileError
from pipelines.io.errors import ConnectorError, ExportRefused, TargetExists
from tests.pipelines.io.harnesses import HARNESSES, Harness
from tests.pipelines.io.projects import running_block, write_profiles

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")

# One column of each kind; in each the second value is missing.
COLUMNS = {
    "whole": pd.array([1, None, 3], dtype="Int64"),
    "real": [1.5, None, float("inf")],
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
    assert set(HARNESSES) == set(CONNECTORS)


def test_the_package_gives_each_connector_by_name_and_nothing_else() -> None:
    for name in CONNECTORS:
        assert issubclass(getattr(pipelines.io, name), Connector)

    with pytest.raises(AttributeError, match="NoSuch"):
        _ = pipelines.io.NoSuch


@pytest.mark.parametrize("column", COLUMNS)
def test_values_and_missing_values_come_back_as_they_were(harness: Harness, column: str) -> None:
    frame = pd.DataFrame({column: COLUMNS[column], "row": [0, 1, 2]})

    assert harness.export(frame) == 3

    loaded = harness.load().sort_values("row", ignore_index=True)
    assert _plain(loaded[column]) == _plain(frame[column])


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
        "small": "int32",
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
    names = ["VendorID", "a b", 'say "hi"', "select", "größe"]

    harness.export(pd.DataFrame([[1, 2, 3, 4, 5]], columns=names), "Odd Name")

    assert list(harness.load("Odd Name").columns) == names


def test_a_loaded_frame_may_be_changed(harness: Harness) -> None:
    harness.export(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": pd.array([1, None], dtype="Int64")}))

    loaded = harness.load()
    loaded.loc[0, "a"] = 9
    loaded.loc[0, "b"] = 9.5
    loaded.loc[1, "c"] = 9

    assert loaded.iloc[0].tolist()[:2] == [9, 9.5]


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"a": [1, 2]}),
        [{"a": 1}, {"a": 2}],
        {"a": [1, 2]},
        pd.Series([1, 2], name="a"),
        pa.RecordBatch.from_pydict({"a": [1, 2]}),
    ],
    ids=["arrow", "dictionaries", "columns", "series", "batch"],
)
def test_other_forms_of_tables_are_exported_too(harness: Harness, data: object) -> None:
    assert harness.export(data) == 2

    assert harness.load()["a"].tolist() == [1, 2]


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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pd.DataFrame(), "no columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column named 'a'"),
        (42, "cannot export a int"),
    ],
    ids=["nothing", "doubles", "no_table"],
)
def test_what_is_no_table_is_refused_with_a_sentence(harness: Harness, data: object, said: str) -> None:
    with pytest.raises(ExportRefused, match=said):
        harness.export(data)


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


def test_a_block_tried_again_writes_once(harness: Harness) -> None:
    frame = pd.DataFrame({"a": [1, 2]})

    for attempt in (1, 2):
        with running_block(harness.root, attempt=attempt) as context:
            harness.export(frame, "once", **harness.append)
            harness.export(frame, "once", **harness.append)
            assert context.effects.rows == 4

    assert len(harness.load("once")) == 4
    with running_block(harness.root, run_id="run-2"):
        harness.export(frame, "once", **harness.append)
    assert len(harness.load("once")) == 6


@pytest.mark.parametrize("point", ["effect.before_commit", "effect.after_commit"])
def test_rows_are_there_once_after_a_kill_and_another_try(harness: Harness, point: str) -> None:
    first = _attempt(harness, "run-1", point)
    second = _attempt(harness, "run-1")

    assert (first, second) == (-signal.SIGKILL, 0)
    found = harness.load("killed")
    assert sorted(zip(found["part"], found["row"], strict=True)) == [(p, r) for p in (0, 1) for r in range(3)]


def _attempt(harness: Harness, run_id: str, crash: str = "") -> int:
    target, options = json.dumps(harness.target("killed")), json.dumps(harness.append)
    command = [sys.executable, "-W", "ignore", "-m", "tests.pipelines.io.exporting_child"]
    name = harness.connector.__name__
    return subprocess.run(
        [*command, str(harness.root), name, target, options, run_id, crash], check=False, timeout=60
    ).returncode

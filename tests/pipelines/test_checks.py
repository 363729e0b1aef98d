from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.model import Block, BlockType
from pipelines.parse_checks import read_checks
from pipelines.parse_fields import Findings, Section
from pipelines.parse_yaml import read_yaml
from tests.pipelines.projects import ProjectFolder, errors
from tests.pipelines.running import Bench, python

TRIPS = """
import datetime as dt
import pandas as pd
from pipelines import data_loader

@data_loader
def load(**kwargs):
    return pd.DataFrame({
        "id": pd.array([1, 2, 2, None], dtype="Int64"),
        "fare": [10.5, -1.0, 2000.0, None],
        "vendor": ["a", "b", "c", None],
        "at": pd.to_datetime(
            ["2024-01-01", "2024-01-01 12:00", None, "2023-12-01"], format="ISO8601", utc=True
        ),
        "day": [dt.date(2024, 1, 1)] * 4,
        "note": [None] * 4,
        "tags": [["x"], [], None, None],
    })
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def checks(yaml: str) -> Any:
    """Return the checks that a block's YAML declares."""
    findings = Findings("metadata.yaml")
    found = read_checks(Section(read_yaml("checks:\n" + yaml), (), findings, "block 'load'"))
    assert findings.problems == []
    return found


GOOD = """
- not_null: [vendor_id, fare]
- unique: [vendor_id, at]
- range: {column: fare, min: 0, max: 1000}
- range: {column: at, min: 2024-01-01, max: 2024-01-31T00:00:00Z}
- set: {column: vendor_id, values: [1, 2]}
- row_count: {min: 1, max: 10}
- freshness: {column: at, within: 2d, of: execution_date}
- schema: {vendor_id: int, fare: number, at: datetime, note: {type: string, required: false}}
  extra: false
"""
GOOD_SOURCE = """
import pandas as pd
from pipelines import data_loader

@data_loader
def load(**kwargs):
    frame = pd.DataFrame({"vendor_id": [1, 2], "fare": [1.0, 2.5]})
    frame["at"] = pd.to_datetime(["2024-01-01", "2024-01-02"])
    return FORM
"""
FORMS = {
    "pandas": "frame",
    "arrow": "__import__('pyarrow').Table.from_pandas(frame)",
    "records": "[frame.to_dict('records')]",
    "stream": "(frame.iloc[n:n + 1] for n in range(2))",
}


@pytest.mark.parametrize("form", FORMS)
def test_good_table_passes_in_every_form(bench: Bench, form: str) -> None:
    source = GOOD_SOURCE.replace("FORM", FORMS[form])

    result = bench.run(python("load", source, checks=checks(GOOD)))

    assert result.state == "succeeded", result.error


def test_all_that_fails_is_told_together_with_counts_and_samples(bench: Bench) -> None:
    bad = """
- not_null: [id, tags]
- unique: id
- range: {column: fare, min: 0, max: 1000}
- range: {column: at, min: 2024-01-01T00:00:00Z}
- set: {column: vendor, values: [a]}
- row_count: {min: 5}
- freshness: {column: at, within: 2d}
- schema: {id: string, at: date, gone: int, note: int, tags: list, day: date}
  extra: false
- not_null: [absent]
"""
    error = bench.run(python("load", TRIPS, checks=checks(bad))).error or ""

    for told in (
        "9 of its checks failed",
        "not_null(id, tags): 2 of 4 rows, such as row 3, row 2",
        "unique(id): 1 of 4 rows, such as 2",
        "range(fare, min 0, max 1000): 2 of 4 rows, such as -1.0, 2000.0",
        "1 of 4 rows, such as '2023-12-01 00:00:00+00:00'",
        "set(vendor): 2 of 4 rows, such as 'b', 'c'",
        "row_count(min 5): the table has 4 rows",
        "freshness(at): the newest is 2024-01-01T12:00:00+00:00, ",
        "there is no column 'gone'",
        "the column 'fare' is not expected",
        "'id' is int, not string",
        "'at' is datetime, not date",
        "not_null(absent): there is no column 'absent'",
    ):
        assert told in error
    assert "'note'" not in error  # a column without values has no type to be wrong


def test_streams_are_judged_by_batch_and_as_a_whole(bench: Bench) -> None:
    source = """
import pandas as pd
from pipelines import data_loader

@data_loader
def load(**kwargs):
    for n in range(3):
        yield pd.DataFrame({"id": [n, n + 1], "fare": [float(n), -1.0 if n else None]})
"""
    bad = """
- unique: [id]
- not_null: [fare]
- range: {column: fare, min: 0}
- row_count: {max: 5}
- unique: [absent]
"""
    error = bench.run(python("load", source, checks=checks(bad))).error or ""

    assert "unique(id): 2 of 6 rows, such as " in error
    assert "not_null(fare): 1 of 6 rows, such as row 1" in error
    assert "range(fare, min 0): 2 of 6 rows, such as -1.0, -1.0" in error
    assert "row_count(max 5): the table has 6 rows" in error
    assert "unique(absent): there is no column 'absent'" in error


def test_warnings_are_logged_and_fail_nothing(bench: Bench) -> None:
    result = bench.run(
        python("load", TRIPS, checks=checks("- not_null: [id]\n  severity: warning\n- row_count: {min: 1}\n"))
    )

    assert result.state == "succeeded"
    assert ("load", "warning", "check not_null(id): 1 of 4 rows, such as row 3") in bench.listener.lines


def test_block_without_a_table_and_missing_pandera_are_said_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from pipelines import custom\n@custom\ndef run():\n    return {'a': 1}\n"

    bare = bench.run(python("run", source, checks=checks("- not_null: [id]\n"))).error or ""
    monkeypatch.setitem(sys.modules, "pandera.pandas", None)
    lacking = bench.run(python("load", TRIPS, checks=checks("- not_null: [id]\n"))).error or ""

    assert "returned no table for them to look at" in bare
    assert "need pandera, which is not installed; install the extra `checks`" in lacking


def test_wrong_declarations_are_reported_with_their_lines(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path)
    folder.pipeline(
        "taxi",
        """\
        blocks:
        - name: load
          type: data_loader
          checks:
          - not_nul: [id]
          - not_null: []
          - range: {column: fare}
          - range: {column: fare, min: [1]}
          - set: {column: vendor, values: 3}
          - row_count: {min: many}
          - freshness: {column: at, within: soon}
          - schema: {id: integer}
            severity: fatal
          - unique: [id]
            extra: true
          - {not_null: id, unique: id}
          - text
        """,
    )

    found = dict(errors(folder.load()))

    assert "this one has not_nul; did you mean 'not_null'?" in found[5]
    assert "it names no column" in found[6]
    assert "neither `min` nor `max`" in found[7]
    assert "single values" in found[8]
    assert "`values` must be a list" in found[9]
    assert "`min` must be a whole number" in found[10]
    assert "is no span of time" in found[11]
    assert "'integer' is no type; use one of any, bool" in found[12]
    assert "`severity` must be one of" in found[13]
    assert "`extra` says something of a `schema` only" in found[15]
    assert "not_null, unique" in found[16]
    assert 17 in found


def test_table_that_a_sql_block_wrote_is_checked(bench: Bench) -> None:
    (bench.root / "io_config.yaml").write_text("default:\n  DUCKDB_DATABASE: shop.duckdb\n")
    block = Block(
        "trips", BlockType.DATA_EXPORTER, "sql", "data_exporters/trips.sql",
        checks=checks("- unique: [id]\n- not_null: [id]\n"),
    )  # fmt: skip

    error = bench.run((block, "SELECT * FROM (VALUES (1), (1)) AS trips(id)")).error or ""

    assert "1 of its checks failed: unique(id): 1 of 2 rows, such as 1" in error

from __future__ import annotations

import datetime as dt
import os
import shutil
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

from pipelines.blocks.r_literals import named_vector, r_literal
from pipelines.model import Block, BlockType
from tests.pipelines.running import Bench, python


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def has_r() -> None:
    if shutil.which("Rscript") is None:
        if os.environ.get("CI"):
            pytest.fail("R is not installed; .ci/run installs it")
        pytest.skip("R is not installed (Debian: r-base-core r-cran-data.table r-cran-jsonlite)")


def r(name: str, kind: BlockType, source: str, *upstream: str) -> tuple[Block, str]:
    return Block(name, kind, "r", f"{kind.folder}/{name}.r", upstream), dedent(source)


TRIPS = """
    import datetime as dt
    from decimal import Decimal
    import pandas as pd
    from pipelines import data_loader

    @data_loader
    def load(**kwargs):
        return pd.DataFrame({
            "id": pd.array([1, None, 3], dtype="Int64"),
            "big": [2**40, 2**40 + 1, -5],
            "fare": [0.1 + 0.2, float("nan"), 1e300],
            "vendor": ["Bücher, \\U0001F600", 'a "quoted"\\nline', None],
            "empty": ["", "NA", None],
            "paid": [True, False, True],
            "day": [dt.date(2024, 1, 2), None, dt.date(1969, 7, 20)],
            "at": pd.to_datetime(["2024-01-02 03:04:05.123456", None, "2009-01-01"], format="ISO8601"),
            "moment": pd.to_datetime(["2024-01-02T03:04:05Z", None, "2041-01-01T00:00:00Z"]),
            "price": [Decimal("12.34"), None, Decimal("0.10")],
            "tags": [[1, 2], None, []],
        })
"""


@pytest.mark.usefixtures("has_r")
def test_frames_come_through_r_as_they_were(bench: Bench) -> None:
    result = bench.run(
        python("load", dedent(TRIPS)),
        r(
            "same",
            BlockType.TRANSFORMER,
            "transform <- function(df_1, ...) { df_1$more <- 1:3; df_1 }",
            "load",
        ),
    )

    assert result.state == "succeeded", result.error
    (before,), (after,) = bench.outputs("load"), bench.outputs("same")
    assert after.pop("more").tolist() == [1, 2, 3]
    exact = ["id", "big", "fare", "vendor", "empty", "paid", "at", "moment"]
    pd.testing.assert_frame_equal(after[exact], before[exact], check_dtype=False)
    assert after["big"].dtype == "int64"
    assert after["day"].tolist()[::2] == [dt.date(2024, 1, 2), dt.date(1969, 7, 20)]
    assert after["price"].tolist()[::2] == [Decimal("12.34"), Decimal("0.10")]
    assert after["tags"].tolist()[::2] == ["[1, 2]", "[]"]
    assert bench.listener.report("same").rows == 3


@pytest.mark.usefixtures("has_r")
def test_loader_and_exporter_see_variables_packages_and_the_project(bench: Bench) -> None:
    (bench.root / "rates.csv").write_text("city,rate\nBerlin,2\nParis,3\n")
    loader = """
        pacman::p_load(stats, utils)
        library("pacman")
        p_load(utils)
        load_data <- function() {
          cat("reading", global_vars["city"], "\\n")
          message("careful")
          df <- read.csv("rates.csv")
          df[df$city == global_vars["city"] & df$rate >= kwargs$limits$least, ]
        }
    """
    exporter = """
        export_data <- function(df_1, df_2, ...) {
          write.csv(df_1, "out.csv", row.names = FALSE)
          writeLines(df_2$word, "word.txt")
        }
    """

    result = bench.run(
        r("load", BlockType.DATA_LOADER, loader),
        python("plain", "from pipelines import custom\n@custom\ndef run():\n    return {'word': 'ümlaut'}\n"),
        r("export", BlockType.DATA_EXPORTER, exporter, "load", "plain"),
        variables={"city": "Paris", "limits": {"least": 2}},
    )

    assert result.state == "succeeded", result.error
    assert (bench.root / "out.csv").read_text() == '"city","rate"\n"Paris",3\n'
    assert (bench.root / "word.txt").read_text() == "ümlaut\n"
    assert ("load", "info", "reading Paris ") in bench.listener.lines
    assert ("load", "warning", "careful") in bench.listener.lines


@pytest.mark.usefixtures("has_r")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("help <- function() {\n  stop('no')\n}\nload_data <- function() {\n  help()\n}", ":2: no"),
        ("load_data <- function() {\n  undefined_thing + 1\n}", ":2: object 'undefined_thing' not found"),
        ("x <- 1\nx <- c(1,\n", "unexpected end of input"),
        ("library(nosuchpackage)\n", ":1: there is no package called"),
        ("load_dat <- function() 1\n", "the block defines no function load_data(); write one"),
        ("load_data <- function() quit(status = 7)", "R ended with exit code 7"),
    ],
)  # fmt: skip
def test_error_says_file_line_and_what_r_says(bench: Bench, source: str, message: str) -> None:
    result = bench.run((Block("load", BlockType.DATA_LOADER, "r", "data_loaders/load.r"), source))

    assert result.state == "failed"
    assert message in (result.error or "")
    assert "data_loaders/load.r" in (result.error or "")
    assert "Traceback" not in bench.listener.text_of("load")


def test_block_is_skipped_with_what_follows_where_there_is_no_r(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    result = bench.run(
        r("load", BlockType.DATA_LOADER, "load_data <- function() 1"),
        python(
            "next", "from pipelines import transformer\n@transformer\ndef run(x):\n    return x\n", "load"
        ),
    )

    assert result.state == "succeeded"
    assert bench.listener.states() == {"load": "skipped", "next": "skipped"}
    assert "R is not installed" in (bench.listener.report("load").error or "")
    assert "skipped: R is not installed" in bench.listener.text_of("load")


def test_values_become_r_code() -> None:
    assert r_literal({"a": [1, 2.5, None, True], "b": 'x"\\\n\x00é'}) == (
        'list("a" = list(1L, 2.5, NULL, TRUE), "b" = "x\\"\\\\\\U0000000a\\ufffd\\U000000e9")'
    )
    assert r_literal(dt.date(2024, 1, 2)) == 'as.Date("2024-01-02")'
    assert r_literal(2**40) == "1099511627776.0"
    assert named_vector({"a": 1, "b": "x", "c": [1]}) == 'c("a" = "1", "b" = "x")'

"""What is told of SQL before it runs."""

from __future__ import annotations

import logging

import pytest

from pipelines.sql_lint import Unreadable, unreadable


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (
            "SELECT * FROM {{ df_1 }} WHERE day = '{{ ds }}' AND n > {{ n | int }} LIMIT {{ most }};",
            "postgres",
        ),
        ("SELECT * FROM t WHERE a = 1 {{ more_conditions }}", "postgres"),
        ("SELECT * FROM {{ df_1 }} WHERE a = 1 {{ more_conditions }}", "duckdb"),
        ("INSERT INTO {{ schema }}.t SELECT 1; VACUUM t", "postgres"),
        ("SELECT {{ block_output('a', parse=lambda data, _: data['n']) }} AS n", "bigquery"),
        ("CREATE TABLE `a b` (n INT) ENGINE=InnoDB", "mysql"),
        ("FROM range(3) SELECT *", "duckdb"),
        ("{% if day %}SELECT {% endif %} this is nobody's SQL (", "sqlite"),
        ("SELECT {{ 1 + }} (", "sqlite"),
        ("", "sqlite"),
    ],
)
def test_what_reads_as_sql_passes(text: str, dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert unreadable(text, dialect) is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("SELECT a\nFRM t b", 2, 5, "'t'"),
        (
            "SELECT '{{ a_long_name_of_a_variable }}' AS x,\n  {{ y }} AS y FROM t WHERE (n = 1",
            2,
            34,
            "Expecting )",
        ),
        ("SELECT 'no end", 1, 1, "tokeniz"),
    ],
)
def test_where_it_stops_being_sql_is_told(text: str, line: int, column: int, said: str) -> None:
    fault = unreadable(text, "postgres")

    assert isinstance(fault, Unreadable)
    assert (fault.line, fault.column) == (line, column)
    assert said in fault.sentence

from __future__ import annotations

import pytest

from pipelines.io.errors import QueryFailed
from pipelines.io.sqltext import bind, first_word, only_reads, quoted, statements


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("", []),
        ("-- only words;\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;;  ; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', \";\" ; SELECT $$;$$", ["SELECT ';', \";\"", "SELECT $$;$$"]),
        ("SELECT $a$ ; $$ ; $a$; SELECT 2", ["SELECT $a$ ; $$ ; $a$", "SELECT 2"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2", ["SELECT 'it''s;'", "SELECT 2"]),
        ("SELECT 1 /* ; */; SELECT 2 -- ;", ["SELECT 1 /* ; */", "SELECT 2 -- ;"]),
        ("SELECT 'open ;", ["SELECT 'open ;"]),
    ],
)
def test_statements_end_at_semicolons_outside_of_quotes_and_comments(sql: str, found: list[str]) -> None:
    assert statements(sql) == found


def test_names_are_bound_outside_of_quotes_comments_and_casts() -> None:
    sql = "SELECT :a, ':a', a::int, x[1:n] -- :a\nFROM t WHERE b % 2 = :b AND c LIKE '5%'"

    assert bind(sql, {"a": 1, "b": 2}, "%({})s", percent="%%") == (
        "SELECT %(a)s, ':a', a::int, x[1:n] -- :a\nFROM t WHERE b %% 2 = %(b)s AND c LIKE '5%%'"
    )
    assert bind("SELECT :a", {"a": 1}, "${}") == "SELECT $a"


def test_a_value_without_a_place_is_refused() -> None:
    with pytest.raises(QueryFailed, match="no place for :b"):
        bind("SELECT ':b'", {"b": 1}, "${}")


def test_names_are_quoted_whatever_they_hold() -> None:
    assert quoted('a"; DROP TABLE t; --') == '"a""; DROP TABLE t; --"'
    with pytest.raises(QueryFailed):
        quoted("")


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("/* c */ (SELECT 1)", True),
        ("WITH a AS (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM a", False),
        ("SELECT 'INSERT INTO'", True),
        ("SELECT * INTO t2 FROM t", False),
        ("UPDATE t SET a = 1", False),
        ("CREATE TABLE t AS SELECT 1", False),
    ],
)
def test_reading_is_told_from_writing(statement: str, reads: bool) -> None:
    assert only_reads(statement) is reads
    assert first_word("-- x\n select 1") == "SELECT"

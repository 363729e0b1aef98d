"""Where in a statement DuckDB found a fault: it tells by a line of the statement and a mark below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from pipelines.io.errors import ConnectorError

_MARKED = re.compile(r"\n\nLINE (?P<line>\d+): (?P<shown>.*)\n(?P<blanks> *)\^")
_NAMED = re.compile(r'Referenced column "(?P<column>[^"]+)"|Table with name (?P<table>\S+) does not exist')
_STATEMENT = "statement"  # the attribute of an error
_CUT = "..."  # where a long line is not shown as a whole


@contextmanager
def noted(statement: str) -> Iterator[None]:
    """Keep with an error the statement that it is about."""
    try:
        yield
    except duckdb.Error as error:
        vars(error)[_STATEMENT] = statement
        raise


def with_place(made: ConnectorError, error: duckdb.Error) -> ConnectorError:
    """Give our own error the place that DuckDB's tells of."""
    made.statement = vars(error).get(_STATEMENT)
    if made.statement is not None:
        made.offset = _offset(str(error), made.statement)
    return made


def _offset(message: str, statement: str) -> int | None:
    marked = _MARKED.search(message)
    if marked is None:
        return _only_place(message, statement)
    lines = statement.splitlines(keepends=True)
    number = int(marked["line"]) - 1
    if number >= len(lines):
        return None
    shown = marked["shown"]
    column = len(marked["blanks"]) - len(f"LINE {marked['line']}: ")
    if shown.startswith(_CUT):
        shown, column = shown[len(_CUT) :], column - len(_CUT)
    begin = lines[number].find(shown.removesuffix(_CUT))
    return sum(map(len, lines[:number])) + begin + column if begin >= 0 else None


def _only_place(message: str, statement: str) -> int | None:
    """Return where the name that the message tells of stands, if it stands there only once."""
    named = _NAMED.search(message)
    if named is None:
        return None
    word = re.escape(named["column"] or named["table"])
    found = [match.start() for match in re.finditer(rf"(?<!\w){word}(?!\w)", statement)]
    return found[0] if len(found) == 1 else None

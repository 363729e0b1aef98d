"""Reads the SQL of a block before any database does; sqlglot knows the dialects."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError

from pipelines.template_lambdas import without_lambdas
from pipelines.template_limits import TemplateError
from pipelines.template_places import PlacedText, outline
from pipelines.template_sandbox import SQL_SANDBOX

# What stands for an expression: a name; or nothing, where it gives a clause that may be left out.
_STAND_INS = ("a_name", "")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Where a text stops being SQL, and what is wanted there."""

    line: int
    column: int
    sentence: str


def unreadable(text: str, dialect: str) -> Unreadable | None:
    """Return why a template of SQL cannot be read in a dialect, or None.

    What statements of Jinja put together is not known before it runs, and passes; so does what is no
    template.
    """
    found: Unreadable | None = None
    for stand_in in _STAND_INS:
        try:
            plain = outline(SQL_SANDBOX, without_lambdas(text)[0], stand_in)
        except (TemplateError, TemplateSyntaxError):
            return None
        fault = None if plain is None else _fault(plain, dialect)
        if fault is None:
            return None
        found = found or fault
    return found


def _fault(text: PlacedText, dialect: str) -> Unreadable | None:
    import sqlglot  # only here: of the processes that check projects, few meet SQL
    from sqlglot.errors import ParseError, SqlglotError, TokenError

    try:
        with _quiet():
            sqlglot.parse(text, read=dialect)
    except ParseError as error:
        if not error.errors:
            return Unreadable(1, 1, str(error))
        first = error.errors[0]
        lines = text.splitlines(keepends=True)[: first["line"] - 1]
        end = sum(map(len, lines)) + first["col"]  # of the token
        return _at(text, end - len(first["highlight"]), f"{first['description']} at '{first['highlight']}'")
    except TokenError as error:
        return _at(text, 0, str(error).splitlines()[0])
    except (SqlglotError, RecursionError):
        return None
    return None


def _at(text: PlacedText, offset: int, sentence: str) -> Unreadable:
    line, column = text.place(max(offset, 0))
    return Unreadable(line, column, sentence)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep sqlglot from telling of statements that it takes as they are."""
    logger = logging.getLogger("sqlglot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)

"""Values in SQL templates: the filters that write them as literals and names, and a check for their want."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from jinja2 import Undefined, nodes, pass_context
from jinja2.runtime import Context

from pipelines.io.errors import QueryFailed
from pipelines.io.sqltext import literal, quoted
from pipelines.template_limits import TemplateError

# What these give can be no SQL of a sender's.
_SAFE_FILTERS = frozenset({"sql_literal", "sql_name", "int", "float", "length", "count"})

_QUOTED_LITERAL = re.compile(r"""['"]\{\{[^{}]*\|\s*sql_literal\s*-?\}\}""")


@dataclass(frozen=True, slots=True)
class SqlWords:
    """How one database writes texts and names; the default is the standard's way."""

    literal: Callable[[str], str] = literal
    name: Callable[[str], str] = quoted


STANDARD_WORDS = SqlWords()
WORDS = "words of sql"  # the key of SqlWords among the names of a rendering: no name of a template has blanks


def sql_filters() -> dict[str, Callable[..., str]]:
    return {"sql_literal": _sql_literal, "sql_name": _sql_name}


@pass_context
def _sql_literal(context: Context, value: Any) -> str:
    words: SqlWords = context[WORDS]
    return as_literal(value, words.literal)


@pass_context
def _sql_name(context: Context, value: Any) -> str:
    words: SqlWords = context[WORDS]
    return as_name(value, words.name)


def as_literal(value: Any, write: Callable[[str], str]) -> str:
    """Return a value as a literal that the database reads back as the same value. Raises TemplateError.

    A list becomes what `IN` wants, a dictionary a text of JSON; `write` makes the literal of a text.
    """
    if isinstance(value, (list, tuple, set, frozenset)):
        if not value:
            raise TemplateError(
                "sql_literal: an empty list has no form in SQL; look at it with {% if %} first"
            )
        return f"({', '.join(as_literal(item, write) for item in value)})"
    if isinstance(value, Undefined):
        str(value)  # strict: raises, and names what is missing
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float, Decimal)) and math.isfinite(value):
        return _number(value)
    return _text(_as_text(value), write)


def as_name(value: Any, write: Callable[[str], str]) -> str:
    """Return a text as the quoted name of a schema, table or column. Raises TemplateError."""
    if not isinstance(value, str):
        raise TemplateError(f"sql_name wants a text, not a {type(value).__name__}")
    try:
        return write(value)
    except QueryFailed as error:
        raise TemplateError(str(error)) from None


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return json.dumps(value, default=str)
    if isinstance(value, (int, float, Decimal)):
        return str(float(value))  # it has no end, or is no number
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TemplateError(f"sql_literal: a {type(value).__name__} has no form in SQL")


def _text(value: str, write: Callable[[str], str]) -> str:
    if "\0" in value:
        raise TemplateError("sql_literal: the text holds the character NUL, which no database takes")
    return write(value)


def _number(value: int | float | Decimal) -> str:
    # In brackets, or a minus in front of it would begin a comment.
    return f"({value})" if value < 0 else str(value)


def unsafe_values(tree: nodes.Template, text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, sentence) for each place where what a sender wrote would be read as SQL."""
    names = _names_of_event_data(tree)
    for output in tree.find_all(nodes.Output):
        for part in output.nodes:
            if not _is_safe(part, names):
                yield (
                    part.lineno,
                    "event data becomes part of the SQL as it came, so that a sender could write SQL; write "
                    "{{ ... | sql_literal }}, without quotes around it",
                )
    for match in _QUOTED_LITERAL.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield line, "`sql_literal` brings its own quotes; take the quotes around it away"


def _names_of_event_data(tree: nodes.Template) -> frozenset[str]:
    """Return `event`, and what `set` and `for` call parts of it."""
    names = frozenset({"event"})
    for target, value in _bindings(tree):
        if not _is_safe(value, names):
            bound = (target, *target.find_all(nodes.Name))
            names |= {name.name for name in bound if isinstance(name, nodes.Name)}
    return names


def _bindings(tree: nodes.Template) -> Iterator[tuple[nodes.Node, nodes.Node]]:
    for node in tree.find_all((nodes.Assign, nodes.For)):
        if isinstance(node, nodes.Assign):
            yield node.target, node.node
        elif isinstance(node, nodes.For):
            yield node.target, node.iter


def _is_safe(node: nodes.Node, names: frozenset[str]) -> bool:
    """Tell whether the value of an expression holds no text of what `names` stand for."""
    if isinstance(node, nodes.Name):
        return node.name not in names
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "variables":
        return all(isinstance(name, nodes.Const) and name.value != "event" for name in node.args)
    if isinstance(node, nodes.Filter) and node.name in _SAFE_FILTERS:
        return True
    if isinstance(node, nodes.CondExpr):
        return all(_is_safe(part, names) for part in (node.expr1, node.expr2) if part is not None)
    return all(_is_safe(child, names) for child in node.iter_child_nodes())

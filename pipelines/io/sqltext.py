"""SQL as text: names quoted, statements told apart, named values bound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.io.errors import QueryFailed

# In this order: comments, quoted text (an opening quote without its end swallows the rest), all other text.
_TOKENS = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<quoted>  [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z)
                 | \$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z) )
    | (?P<end>     ; )
    | (?P<code>    [A-Za-z_][\w$]* | [^;] )
    """,
    re.DOTALL | re.VERBOSE,
)
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}  # the backslash first
_NAME = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


def quoted(name: str) -> str:
    """Return a name as a quoted identifier; the only place where names enter SQL."""
    if not name or "\0" in name:
        raise QueryFailed(f"{name!r} cannot be the name of a table or column")
    return '"' + name.replace('"', '""') + '"'


def quoted_list(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def literal(text: str) -> str:
    """Return a text as a literal, for the few statements that take no bound values."""
    return "'" + text.replace("'", "''") + "'"


def escaped_literal(text: str) -> str:
    """Return a text as a literal where a backslash begins an escape, as in MySQL and BigQuery."""
    for character, written in _ESCAPES.items():
        text = text.replace(character, written)
    return f"'{text}'"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table in a schema."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def _pieces(sql: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) over the whole text; kind is comment, quoted, end or code."""
    for match in _TOKENS.finditer(sql):
        kind = match.lastgroup or "code"
        yield ("quoted" if kind == "tag" else kind), match.group()


def statements(sql: str) -> list[str]:
    """Split at the semicolons that end statements; pieces of only comments and blanks are dropped."""
    found: list[str] = []
    text, has_code = "", False
    for kind, piece in _pieces(sql):
        if kind == "end":
            found += [text.strip()] if has_code else []
            text, has_code = "", False
            continue
        text += piece
        has_code = has_code or (kind != "comment" and not piece.isspace())
    return [*found, text.strip()] if has_code else found


def first_word(statement: str) -> str:
    """Return the statement's first word in upper case: SELECT, INSERT, ..."""
    match = re.match(r"[\s(]*([A-Za-z]+)", without_comments(statement))
    return match.group(1).upper() if match else ""


def without_comments(statement: str) -> str:
    return "".join(" " if kind == "comment" else piece for kind, piece in _pieces(statement))


_READS = frozenset({"DESCRIBE", "EXPLAIN", "FROM", "SELECT", "SHOW", "SUMMARIZE", "TABLE", "VALUES", "WITH"})
_WRITES = frozenset({"DELETE", "INSERT", "INTO", "MERGE", "UPDATE"})


def only_reads(statement: str) -> bool:
    """Tell whether a statement returns rows and, as far as its words say, changes nothing."""
    return first_word(statement) in _READS and not _WRITES & set(words(statement))


def words(statement: str) -> list[str]:
    """Return the words of the statement's code in upper case, without comments and quoted text."""
    code = "".join(piece if kind == "code" else " " for kind, piece in _pieces(statement))
    return re.findall(r"[A-Z_]+", code.upper())


def bind(sql: str, binds: Mapping[str, Any], placeholder: str, *, percent: str = "%") -> str:
    """Turn `:name` into the driver's placeholder, for the names in `binds`, outside of quotes and comments.

    `placeholder` is a format with the name in it, such as `%({})s`; `percent` is how the driver wants a
    percent sign of the text itself. QueryFailed when a value has no place in the text.
    """
    code = ""
    parts: list[str] = []
    for kind, piece in _pieces(sql):
        if kind in ("code", "end"):
            code += piece
            continue
        parts += [_placed(code, binds, placeholder, percent), piece.replace("%", percent)]
        code = ""
    parts.append(_placed(code, binds, placeholder, percent))
    unused = sorted(binds.keys() - bound_in(sql, binds).keys())
    if unused:
        raise QueryFailed(f"the query has no place for {', '.join(':' + name for name in unused)}")
    return "".join(parts)


def _placed(code: str, binds: Mapping[str, Any], placeholder: str, percent: str) -> str:
    return _NAME.sub(
        lambda match: placeholder.format(match[1]) if match[1] in binds else match[0],
        code.replace("%", percent),
    )


def bound_in(sql: str, binds: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that have a place in the text, outside of quotes and comments."""
    code = "".join(piece if kind == "code" else " " for kind, piece in _pieces(sql))
    named = set(_NAME.findall(code))
    return {name: value for name, value in binds.items() if name in named}

"""A text of SQL split into its statements, by the words and quotes of its dialect.

sqlglot reads the tokens. What it cannot read is split by our own, plainer rules: no text is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from pipelines.io.sqltext import statements

# What holds statements of its own, with semicolons between them.
_PROGRAMS = frozenset({"EVENT", "FUNCTION", "PACKAGE", "PROCEDURE", "TRIGGER"})
_LOOPS = frozenset({"CASE", "FOR", "IF", "LOOP", "REPEAT", "WHILE"})


def split(sql: str, dialect: str | None) -> list[str]:
    """Return the statements as they are written, without the semicolons that end them."""
    tokens = tokens_of(sql, dialect)
    if tokens is None or any(_hides_quotes(sql, token) for token in tokens):
        return statements(sql)
    found, start, part = [], 0, list[Token]()
    depth = 0
    for place, token in enumerate(tokens):
        if token.token_type is TokenType.SEMICOLON and depth == 0:
            found += [sql[start : token.start].strip()] if part else []
            start, part = token.end + 1, []
            continue
        part.append(token)
        if _is_program(part):
            following = tokens[place + 1].text if place + 1 < len(tokens) else ""
            depth = max(depth + _opened(token.text.upper(), following.upper()), 0)
    return [*found, sql[start:].strip()] if part else found


def tokens_of(sql: str, dialect: str | None) -> list[Token] | None:
    """Return the tokens of a text, or None where sqlglot cannot read it."""
    if dialect is None:
        return None
    try:
        tokens: list[Token] = Dialect.get_or_raise(dialect).tokenize(sql)
    except (SqlglotError, ValueError):
        return None
    return tokens


def _hides_quotes(sql: str, token: Token) -> bool:
    """Tell whether a token is a command's text up to the next semicolon, be that one in quotes or not."""
    if token.token_type is not TokenType.STRING:
        return False
    written = sql[token.start : token.end + 1]
    return written[:1] not in "'\"" and any(quote in written for quote in "'\"$")


def _is_program(part: Sequence[Token]) -> bool:
    words = [token.text.upper() for token in part[:6]]
    return words[0] == "CREATE" and bool(_PROGRAMS & set(words))


def _opened(word: str, following: str) -> int:
    """Count the blocks that a word opens; END IF and END LOOP end what IF and LOOP did not open here."""
    if word in ("BEGIN", "CASE"):
        return 1
    if word == "END":
        return 0 if following in _LOOPS - {"CASE"} else -1
    return 0

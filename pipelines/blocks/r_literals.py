"""Plain values as R code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

_LARGEST_INTEGER = 2**31 - 1  # beyond it R has only doubles


def r_literal(value: Any) -> str:
    """Return R code for a value; what has no form of its own in R becomes a text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int) and abs(value) <= _LARGEST_INTEGER:
        return f"{value}L"
    if isinstance(value, int | float | Decimal):
        return _number(float(value))
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=value.tzinfo or UTC).timestamp()
        return f'as.POSIXct({moment!r}, origin = "1970-01-01", tz = "UTC")'
    if isinstance(value, date):
        return f'as.Date("{value.isoformat()}")'
    if isinstance(value, Mapping):
        return f"list({', '.join(f'{r_text(str(key))} = {r_literal(item)}' for key, item in value.items())})"
    if isinstance(value, list | tuple | set | frozenset):
        return f"list({', '.join(r_literal(item) for item in value)})"
    return r_text(str(value))


def named_vector(values: Mapping[str, Any]) -> str:
    """Return the scalars among `values` as a named vector of texts, as Mage hands variables to R."""
    items = [
        f"{r_text(name)} = {r_text(_shown(value))}" for name, value in values.items() if _is_scalar(value)
    ]
    return f"c({', '.join(items)})" if items else "character(0)"


def r_text(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | int | float | Decimal | date)


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return repr(value)


def _character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    # R has no NUL in texts, and no way to write half of a surrogate pair.
    code = ord(character)
    return f"\\U{code:08x}" if code and not 0xD800 <= code <= 0xDFFF else "\\ufffd"

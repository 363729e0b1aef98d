"""How Mage cleans the names of columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

from pipelines.parse_fields import words

_DROPPED = re.compile(r'[\ufeff"$\n\r\t]')
# Words that Postgres does not take as a column's name without quotes.
_RESERVED = words(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
    collation column concurrently constraint create cross current_catalog current_date current_role
    current_schema current_time current_timestamp current_user default deferrable desc distinct do else end
    except false fetch for foreign freeze from full grant group having ilike in initially inner intersect
    into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null
    offset on only or order outer overlaps placing primary references returning right select session_user
    similar some symmetric system_user table tablesample then to trailing true union unique user using
    variadic verbose when where window with
    """
)


def clean_name(name: str, *_: Any, case_sensitive: bool = False, **__: Any) -> str:
    """Return a name of letters, digits and `_`, in lower case unless case counts."""
    cleaned = re.sub(r"\W", "_", _DROPPED.sub("", name))
    if cleaned[:1].isdigit():
        cleaned = f"letter_{cleaned}"
    return cleaned if case_sensitive else cleaned.lower()


def column_names(names: Iterable[Any], *, allow_reserved_words: bool, case_sensitive: bool) -> dict[Any, str]:
    """Return what an export of Mage calls each column: cleaned, and `_` before a reserved word."""
    cleaned = {name: clean_name(str(name), case_sensitive=case_sensitive) for name in names}
    if allow_reserved_words:
        return cleaned
    return {name: f"_{text}" if text.lower() in _RESERVED else text for name, text in cleaned.items()}


def snake_case(name: str) -> str:
    """Return a column's name as the action `clean_column_name` makes it: `PULocationID`, `pu_location_id`."""
    text = re.sub(r"\s+", "_", name.strip())
    text = re.sub(r"\W", "", text)
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).lower().strip("_")
    if text.isdigit():
        return f"number_{text}"
    return f"{text}_" if iskeyword(text) else text

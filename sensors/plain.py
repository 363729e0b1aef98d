"""Values of outside systems become what JSON and every database can hold."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


def plain(value: Any) -> Any:
    """Return a value as JSON has it, without loss. Raises TypeError for what has no such form.

    Times become ISO 8601 (in UTC they end in Z), decimal numbers and those that are no numbers text, bytes
    base64.
    """
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return storable(value)
        case datetime() | date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case Decimal() | UUID() | timedelta():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case Mapping():
            return {storable(str(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def storable(text: str) -> str:
    """Spell with escapes what no database can hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()

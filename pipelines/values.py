"""Values of the typed inputs: from what JSON, YAML or a command line gives, to Python and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from pipelines.model import InputType


class ValueProblem(ValueError):
    """A value of the wrong type; the message says what is wanted and what came."""


def coerce(value: Any, kind: InputType) -> Any:
    """Return `value` as the Python value of its type. Raises ValueProblem.

    Text is understood where it can only mean one thing: command lines and query strings have nothing else.
    """
    wanted, convert = _KINDS[kind]
    try:
        return convert(value)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueProblem(f"{wanted}, not {_shown(value)}") from error


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: dates and times as ISO text."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, date):
        return str(plain(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise TypeError


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, str) and len(value) > 100):
        raise ValueError
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    return number


def _number(value: Any) -> float | int:
    if isinstance(value, bool):
        raise TypeError
    number = value if isinstance(value, int) else float(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise TypeError


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise TypeError
    text = value.strip()
    return date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text).date()


def _datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif isinstance(value, str):
        moment = datetime.fromisoformat(value.strip())
    else:
        raise TypeError
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _object(value: Any) -> dict[str, Any]:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise TypeError
    return dict(found)


def _list(value: Any) -> list[Any]:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)):
        raise TypeError
    return list(found)


def _json(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


_KINDS: Mapping[InputType, tuple[str, Callable[[Any], Any]]] = {
    InputType.STRING: ("text", _string),
    InputType.INTEGER: ("a whole number", _integer),
    InputType.NUMBER: ("a number", _number),
    InputType.BOOLEAN: ("true or false", _boolean),
    InputType.DATE: ("a date such as 2024-01-31", _date),
    InputType.DATETIME: ("a time such as 2024-01-31T05:00:00Z", _datetime),
    InputType.OBJECT: ("an object of names and values", _object),
    InputType.LIST: ("a list", _list),
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."

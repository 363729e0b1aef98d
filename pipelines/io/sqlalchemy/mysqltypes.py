"""Types of MySQL: of new columns, of columns that are there, and of results."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from pipelines.io.sqlalchemy import values

_NAMES = {
    "text": "longtext",
    "json": "json",
    "uuid": "char(36)",
    "bytes": "longblob",
    "date": "date",
    "time": "time(6)",
    "timestamp": "datetime(6)",
    "timestamptz": "timestamp(6)",
}
_NUMBERS = {
    pa.bool_(): "tinyint(1)",
    pa.int8(): "tinyint",
    pa.uint8(): "tinyint unsigned",
    pa.int16(): "smallint",
    pa.uint16(): "smallint unsigned",
    pa.int32(): "int",
    pa.uint32(): "int unsigned",
    pa.int64(): "bigint",
    pa.uint64(): "bigint unsigned",
}
_MOST_DIGITS, _DIGITS, _FINEST = 65, 38, 30

_KINDS = {
    "tinyint(1)": "boolean",
    "tinyint": "integer",
    "smallint": "integer",
    "mediumint": "integer",
    "int": "integer",
    "bigint": "integer",
    "year": "integer",
    "float": "float",
    "double": "float",
    "decimal": "numeric",
    "char": "text",
    "varchar": "text",
    "tinytext": "text",
    "text": "text",
    "mediumtext": "text",
    "longtext": "text",
    "enum": "text",
    "set": "text",
    "json": "json",
    "uuid": "uuid",
    "binary": "bytes",
    "varbinary": "bytes",
    "tinyblob": "bytes",
    "blob": "bytes",
    "mediumblob": "bytes",
    "longblob": "bytes",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
}

# Of the protocol.
_BINARY, _UNSIGNED = 63, 32
_INTEGERS = {1: 8, 2: 16, 3: 32, 8: 64, 9: 32, 13: 16}
_DECIMALS = (0, 246)
_FLOAT, _DOUBLE, _NULL, _TIMESTAMP, _DATE, _TIME, _DATETIME = 4, 5, 6, 7, 10, 11, 12
_NEWDATE, _BIT, _JSON = 14, 16, 245


def column_name(arrow: pa.DataType, kind: str | None, *, is_key: bool) -> str:
    """Return the type of a new column. Keys have an end, or they could have no index."""
    if pa.types.is_dictionary(arrow):
        return column_name(arrow.value_type, kind, is_key=is_key)
    if kind == "numeric":
        scale = min(max(arrow.scale, 0), _FINEST)
        return f"decimal({min(max(arrow.precision, _DIGITS), _MOST_DIGITS)},{scale})"
    if kind == "float":
        return "double"  # a plain float would come back with six digits
    if kind in ("text", None) and is_key:
        return "varchar(255)"
    # NULL is said: a timestamp that says nothing may be filled by itself.
    name = _NUMBERS.get(arrow) or _NAMES[kind or "text"]
    return f"{name} NULL DEFAULT NULL" if name == "timestamp(6)" else name


def kind_of(name: str) -> str:
    """Return what a type is about, in the words of `pipelines.io.columns`."""
    if name.startswith("tinyint(1)"):
        return "boolean"
    word = re.match(r"[a-z]+", name.lower())
    return _KINDS.get(word.group(), "other") if word else "other"


def reader_of(field: Any, is_json: bool) -> Callable[[Sequence[Any]], pa.Array]:
    """Return how the texts of a result's column become an array."""
    code = field.type_code
    if is_json or code == _JSON:
        return _json
    if code == 1 and field.length == 1:
        return _booleans
    if code in _INTEGERS:
        return _texts(_integer(_INTEGERS[code], is_unsigned=bool(field.flags & _UNSIGNED)))
    if code in _DECIMALS:
        return _texts(
            pa.decimal256(_MOST_DIGITS, field.scale) if _is_wide(field) else pa.decimal128(38, field.scale)
        )
    if code == _BIT:
        return _bits
    if code == _TIME:
        return _times
    if code in _EXACT:
        return _texts(_EXACT[code])
    return _bytes if field.charsetnr == _BINARY and code != _NULL else _strings


_EXACT = {
    _FLOAT: pa.float32(),
    _DOUBLE: pa.float64(),
    _DATE: pa.date32(),
    _NEWDATE: pa.date32(),
    _DATETIME: pa.timestamp("us"),
    _TIMESTAMP: pa.timestamp("us", "UTC"),
}


def _integer(bits: int, *, is_unsigned: bool) -> pa.DataType:
    signed = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
    unsigned = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
    return (unsigned if is_unsigned else signed)[bits]


def _is_wide(field: Any) -> bool:
    return bool(field.length - 2 > 38)  # with the sign and the point


def _texts(of: pa.DataType) -> Callable[[Sequence[Any]], pa.Array]:
    if pa.types.is_timestamp(of) and of.tz:
        # The session's zone is UTC; the text says none.
        return lambda given: pa.array(given, pa.string()).cast(pa.timestamp("us")).cast(of)
    return lambda given: pa.array(given, pa.string()).cast(of)


def _booleans(given: Sequence[Any]) -> pa.Array:
    strange = set(given) - {"0", "1", None}
    if strange:
        raise ValueError(f"{min(strange)} in a column of tinyint(1), which means true or false")
    return pa.array([None if value is None else value == "1" for value in given], pa.bool_())


def _times(given: Sequence[Any]) -> pa.Array:
    """Return times of day; what is longer than a day or negative is a duration."""
    try:
        return values.hours_of(pa.array(given, pa.string()))
    except pa.ArrowInvalid:
        return pa.array([None if text is None else _microseconds(text) for text in given], pa.duration("us"))


def _microseconds(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    hours, minutes, seconds = text.lstrip("-").split(":")
    whole, _, part = seconds.partition(".")
    total = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    return sign * (total * 1_000_000 + int(part.ljust(6, "0") if part else 0))


def _bits(given: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else int.from_bytes(value, "big") for value in given], pa.uint64())


def _bytes(given: Sequence[Any]) -> pa.Array:
    return pa.array([value.encode() if isinstance(value, str) else value for value in given], pa.binary())


def _strings(given: Sequence[Any]) -> pa.Array:
    return pa.array(
        [value.decode() if isinstance(value, bytes) else value for value in given]
        if any(isinstance(value, bytes) for value in given)
        else given,
        pa.string(),
    )


def _json(given: Sequence[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), _strings(given))

"""Plain values as JSON and back, without loss: tuples stay tuples, dates stay dates, numpy numbers numpy's.

What JSON has no form for is written as `{"$type": ..., "value": ...}`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pipelines.errors import NotStorableError

TYPE = "$type"

# Called with what this module has no form for; returns the number of the part it is stored as, or raises.
StorePart = Callable[[Any], int]
LoadPart = Callable[[int], Any]


def no_parts(value: Any) -> int:
    raise NotStorableError(
        f"a value of type {type(value).__module__}.{type(value).__qualname__} has no plain form"
    )


def encode(value: Any, store_part: StorePart = no_parts) -> Any:
    """Return the JSON form of a value; NotStorableError when there is none."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else _tagged("float", repr(value))
    if kind is list:
        return [encode(item, store_part) for item in value]
    if kind is dict:
        return _encode_dict(value, store_part)
    if kind in (tuple, set, frozenset):
        return _tagged(kind.__name__, [encode(item, store_part) for item in value])
    encoder = _ENCODERS.get(kind)
    if encoder is not None:
        return encoder(value)
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return _tagged("numpy", [value.dtype.str, base64.b64encode(value.tobytes()).decode()])
    return _tagged("part", store_part(value))


def decode(form: Any, load_part: LoadPart | None = None) -> Any:
    """Return the value of a JSON form."""
    if isinstance(form, list):
        return [decode(item, load_part) for item in form]
    if not isinstance(form, dict):
        return form
    if TYPE not in form:
        return {key: decode(value, load_part) for key, value in form.items()}
    kind, value = form[TYPE], form["value"]
    if kind == "part":
        if load_part is None:
            raise NotStorableError("a plain value refers to a part that is not there")
        return load_part(value)
    if kind == "dict":
        return {decode(key, load_part): decode(item, load_part) for key, item in value}
    if kind in _COLLECTIONS:
        return _COLLECTIONS[kind](decode(item, load_part) for item in value)
    return _DECODERS[kind](value)


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {TYPE: kind, "value": value}


def _encode_dict(value: dict[Any, Any], store_part: StorePart) -> Any:
    if TYPE not in value and all(type(key) is str for key in value):
        return {key: encode(item, store_part) for key, item in value.items()}
    pairs = [[encode(key), encode(item, store_part)] for key, item in value.items()]
    return _tagged("dict", pairs)


def _encode_datetime(value: datetime) -> Any:
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key:
        local = value.replace(tzinfo=None, fold=0).isoformat()
        return _tagged("zoned", [local, zone.key, value.fold])
    if zone is not None and not isinstance(zone, timezone):
        raise NotStorableError(f"a time in a zone of type {type(zone).__qualname__} has no plain form")
    return _tagged("datetime", value.isoformat())


def _encode_timestamp(value: pd.Timestamp) -> Any:
    zone = None if value.tz is None else str(value.tz)
    return _tagged("timestamp", [value.isoformat(), zone, value.unit])


def _decode_timestamp(form: list[Any]) -> pd.Timestamp:
    text, zone, unit = form
    stamp = pd.Timestamp(text)
    return (stamp if zone is None else stamp.tz_convert(zone)).as_unit(unit)


def _decode_datetime(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo == UTC else value


def _decode_zoned(form: list[Any]) -> datetime:
    local, key, fold = form
    return datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(key), fold=fold)


def _decode_numpy(form: list[str]) -> Any:
    dtype, data = form
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype))[0]


_COLLECTIONS: Mapping[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}

_ENCODERS: Mapping[type, Callable[[Any], Any]] = {
    bytes: lambda value: _tagged("bytes", base64.b64encode(value).decode()),
    date: lambda value: _tagged("date", value.isoformat()),
    datetime: _encode_datetime,
    time: lambda value: _tagged("time", value.isoformat()),
    timedelta: lambda value: _tagged("timedelta", [value.days, value.seconds, value.microseconds]),
    Decimal: lambda value: _tagged("decimal", str(value)),
    UUID: lambda value: _tagged("uuid", str(value)),
    pd.Timestamp: _encode_timestamp,
    pd.Timedelta: lambda value: _tagged("pandas_timedelta", [value.asm8.astype("int64").item(), value.unit]),
    type(pd.NaT): lambda value: _tagged("not_a_time", None),
    type(pd.NA): lambda value: _tagged("not_available", None),
}

_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "float": float,
    "numpy": _decode_numpy,
    "bytes": base64.b64decode,
    "date": date.fromisoformat,
    "datetime": _decode_datetime,
    "zoned": _decode_zoned,
    "time": time.fromisoformat,
    "timedelta": lambda form: timedelta(days=form[0], seconds=form[1], microseconds=form[2]),
    "decimal": Decimal,
    "uuid": UUID,
    "timestamp": _decode_timestamp,
    "pandas_timedelta": lambda form: pd.Timedelta(np.timedelta64(form[0], form[1])),
    "not_a_time": lambda form: pd.NaT,
    "not_available": lambda form: pd.NA,
}

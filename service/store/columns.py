"""How values lie in columns: times as integers, JSON as ASCII text, text that every database takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from service.errors import UnstorableText

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Return the microseconds since 1970; ValueError for a naive time, which could mean anything."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _micros_or_none(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


class Moment(TypeDecorator[datetime]):
    """An aware time, kept as microseconds since 1970: exact, sortable, and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], int | None]:
        return _micros_or_none  # itself, as an event has a dozen: the usual way is two calls more

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_micros(value)


class Json(TypeDecorator[Any]):
    """A plain value as ASCII JSON, so that NUL and lone surrogates inside it survive in every database."""

    impl = Text
    cache_ok = True
    should_evaluate_none = False

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:
        return _json_or_none

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def dump_json(value: Any) -> str:
    """Return compact ASCII JSON; times become ISO text."""
    return _ENCODER.encode(value)


def _as_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def _json_or_none(value: Any) -> str | None:
    return None if value is None else dump_json(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_as_plain)


class Verbatim(TypeDecorator[str]):
    """Text that must come back as it went in: what cannot be stored is refused, never altered."""

    impl = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        return _refuse_nul


class Key(Verbatim):
    """Text that identifies something.

    Compared byte by byte, also on Postgres, where the database's own collation would be slower and could
    change with the operating system.
    """

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        collation = "C" if dialect.name == "postgresql" else None
        return dialect.type_descriptor(Text(collation=collation))


def _refuse_nul(value: str | None) -> str | None:
    # SQLite would take a NUL, Postgres would not: the same answer for both.
    if value is not None and "\x00" in value:
        raise UnstorableText("a key, a name or data")
    return value


class Prose(TypeDecorator[str]):
    """Text for people (messages, log lines): what a database cannot hold is replaced by U+FFFD."""

    impl = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        return _printable


def _printable(value: str | None) -> str | None:
    if value is None or (value.isascii() and "\x00" not in value):
        return value
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")


# SQLite counts rows by itself only for INTEGER; everywhere else the number must be wide.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

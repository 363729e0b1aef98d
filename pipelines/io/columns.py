"""Whether the columns of a frame fit those of a table, in the words that all databases share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.io.base import IfExists, Policy
from pipelines.io.errors import ExportRefused
from pipelines.io.sqltext import Relation

# What a type is about. Postgres decides whether a text fits a column; all else must be of a kind that fits.
_FITS: dict[str, frozenset[str]] = {
    "boolean": frozenset({"boolean"}),
    "integer": frozenset({"integer", "numeric", "float"}),
    "float": frozenset({"float", "numeric", "integer"}),  # into integers only whole numbers
    "numeric": frozenset({"numeric", "float", "integer"}),
    "bytes": frozenset({"bytes"}),
    "date": frozenset({"date", "timestamp", "timestamptz"}),
    "time": frozenset({"time"}),
    "timestamp": frozenset({"timestamp", "timestamptz"}),  # without a zone means UTC
    "timestamptz": frozenset({"timestamptz"}),
    "interval": frozenset({"interval"}),
    "json": frozenset({"json"}),
    "uuid": frozenset({"uuid", "text"}),
}


_ARROW_KINDS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "float"),
    (pa.types.is_decimal, "numeric"),
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_string_view, "text"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (pa.types.is_duration, "interval"),
    (pa.types.is_binary, "bytes"),
    (pa.types.is_large_binary, "bytes"),
    (pa.types.is_fixed_size_binary, "bytes"),
    (pa.types.is_binary_view, "bytes"),
    (pa.types.is_nested, "json"),
)


def arrow_kind(name: str, arrow: pa.DataType) -> str | None:
    """Return what an Arrow type is about; None for only nulls."""
    if pa.types.is_null(arrow):
        return None
    if pa.types.is_dictionary(arrow):
        return arrow_kind(name, arrow.value_type)
    if pa.types.is_timestamp(arrow):
        return "timestamp" if arrow.tz is None else "timestamptz"
    if arrow == pa.json_():
        return "json"
    if arrow == pa.uuid():
        return "uuid"
    for is_one, kind in _ARROW_KINDS:
        if is_one(arrow):
            return kind
    raise ExportRefused(f"column {name!r} has the type {arrow}, which has no type in a database; convert it")


def fits(kind: str | None, table_kind: str) -> bool:
    """Tell whether a frame's column may be written into a table's; None is a column of only nulls."""
    return kind is None or kind == "text" or table_kind in _FITS[kind]


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """One column of what is written; `kind` None is a column of only nulls."""

    name: str
    type: str
    kind: str | None
    example: Callable[[], str]  # "'abc' in row 1", for an error


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of a table that exists."""

    name: str
    type: str  # as format_type spells it
    kind: str
    fills_itself: bool  # by a default, an identity or a generation expression


def check_keys(target: Relation, policy: Policy, columns: Sequence[FrameColumn]) -> None:
    """Raise unless the frame has the columns by which it is to be merged."""
    missing = sorted(set(policy.keys) - {column.name for column in columns})
    if missing and policy.if_exists is IfExists.MERGE:
        raise ExportRefused(f"cannot merge into {target}: the frame lacks the key column {_listed(missing)}")


def check_columns(target: Relation, columns: Sequence[FrameColumn], existing: Sequence[TableColumn]) -> None:
    """Raise, naming table, column and value, unless the frame has the table's columns with fitting types."""
    by_name = {column.name: column for column in existing}
    extra = [column.name for column in columns if column.name not in by_name]
    if extra:
        raise ExportRefused(
            f"cannot write to {target}: it has no column {_listed(extra)} "
            f"(its columns are {_listed(by_name)}). "
            f"Rename or drop what is too much in the frame, or add the column to the table"
        )
    given = {column.name for column in columns}
    missing = [column.name for column in existing if column.name not in given and not column.fills_itself]
    if missing:
        raise ExportRefused(
            f"cannot write to {target}: the frame lacks the column {_listed(missing)}. "
            f"Add it to the frame, or give the table's column a default"
        )
    for column in columns:
        _check_type(target, column, by_name[column.name])


def _check_type(target: Relation, column: FrameColumn, existing: TableColumn) -> None:
    if fits(column.kind, existing.kind):
        return
    raise ExportRefused(
        f"cannot write to {target}: column {column.name!r} is {existing.type} there, "
        f"and {column.type} in the frame ({column.example()}). Convert the column, or replace the table"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def example_of(column: pa.ChunkedArray) -> str:
    """Return the first value of a column and where it is, for an error."""
    if column.null_count == len(column):
        return "no value"
    row = pc.index(column.is_valid(), True).as_py()
    return f"{column[row].as_py()!r} in row {row}"


def double_key(target: Relation, keys: Sequence[str], found: Sequence[object]) -> ExportRefused:
    """Say which key cannot be merged by; `found` is the key and how many rows have it."""
    *values, times = found
    key = ", ".join(f"{name}={value!r}" for name, value in zip(keys, values, strict=True))
    trouble = "lacks a part of its key" if None in values else f"is there {times} times"
    return ExportRefused(
        f"cannot merge into {target}: the row with {key} {trouble}; every key must be there once"
    )


def whole_numbers(table: pa.Table, kinds: Sequence[str | None], target: object) -> pa.Table:
    """Turn numbers that go into integer columns into integers.

    pandas makes floats of whole numbers as soon as one of them lacks, and databases round what is not whole.
    """
    for place, (name, kind) in enumerate(zip(table.column_names, kinds, strict=True)):
        column = table.column(place)
        if kind == "integer" and (pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
            table = table.set_column(place, name, _whole(name, column, target))
    return table


def _whole(name: str, column: pa.ChunkedArray, target: object) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = column.to_pylist()
        row = next(i for i, number in enumerate(numbers) if number is not None and not _is_whole(number))
        raise ExportRefused(
            f"cannot write to {target}: column {name!r} takes whole numbers, "
            f"and row {row} holds {numbers[row]}"
        ) from None


def _is_whole(number: Any) -> bool:
    return bool(math.isfinite(number) and abs(number) < 2**63 and number == int(number))

"""One Arrow type for a column whose batches come with several."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from pipelines.errors import MillraceError

_MOST_DIGITS = 76  # of Arrow's widest decimal
_UNITS = ("s", "ms", "us", "ns")


class TypesDiffer(MillraceError):
    """Two batches have types for one column that no type holds both of, or a value that does not fit."""


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds the values of both, None when there is none.

    Text and numbers have none in common, nor have moments with and without a zone. Whole numbers and
    fractions have double; whether each value fits is for the cast to say.
    """
    if one.equals(other):
        return one
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    for rule in _RULES:
        if (found := rule(one, other)) is not None:
            return found
    return None


def may_lose(one: pa.DataType, other: pa.DataType) -> bool:
    """Say whether a cast may meet values that do not fit."""
    if pa.types.is_integer(one):
        return not pa.types.is_integer(other)
    return bool(pa.types.is_temporal(one) or pa.types.is_nested(one))


def _numbers(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if not all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)):
        return None
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return max(one, other, key=lambda kind: kind.bit_width)
    if pa.types.is_floating(one) or pa.types.is_floating(other):
        return pa.float64()
    return _whole_numbers(one, other)


def _whole_numbers(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    wide, narrow = sorted((one, other), key=lambda kind: kind.bit_width, reverse=True)
    unsigned = [kind for kind in (one, other) if pa.types.is_unsigned_integer(kind)]
    if len(unsigned) != 1 or (narrow in unsigned and wide.bit_width > narrow.bit_width):
        return wide
    return {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}.get(unsigned[0].bit_width)


def _decimals(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if not (pa.types.is_decimal(one) and pa.types.is_decimal(other)):
        return None
    scale = max(one.scale, other.scale)
    digits = max(one.precision - one.scale, other.precision - other.scale) + scale
    if digits > _MOST_DIGITS:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def _texts(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in (one, other)):
        return pa.large_string()
    if all(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in (one, other)):
        return pa.large_binary()
    return None


def _moments(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other):
        return pa.timestamp(_finest(one, other), one.tz) if one.tz == other.tz else None
    if pa.types.is_duration(one) and pa.types.is_duration(other):
        return pa.duration(_finest(one, other))
    return None


def _finest(one: pa.DataType, other: pa.DataType) -> str:
    return _UNITS[max(map(_UNITS.index, (one.unit, other.unit)))]


def _categories(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both = [kind for kind in (one, other) if pa.types.is_dictionary(kind)]
    if not both:
        return None
    values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other)]
    value = common_type(*values)
    if value is None or len(both) < 2:
        return value
    return pa.dictionary(pa.int32(), value, ordered=one.ordered and other.ordered)


def _lists(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if not all(pa.types.is_list(kind) or pa.types.is_large_list(kind) for kind in (one, other)):
        return None
    item = common_type(one.value_type, other.value_type)
    make = pa.large_list if any(map(pa.types.is_large_list, (one, other))) else pa.list_
    return None if item is None else make(item)


def _structs(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if not (pa.types.is_struct(one) and pa.types.is_struct(other)):
        return None
    fields = {field.name: field.type for field in one}
    for field in other:
        found = common_type(fields.get(field.name, field.type), field.type)
        if found is None:
            return None
        fields[field.name] = found
    return pa.struct(list(fields.items()))


_RULES: tuple[Callable[[pa.DataType, pa.DataType], pa.DataType | None], ...] = (
    _numbers,
    _decimals,
    _texts,
    _moments,
    _categories,
    _lists,
    _structs,
)

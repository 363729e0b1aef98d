"""Paths into JSON: `$.data.items`, `items[0].id`, `$['odd name'][*]`; no filters, no searching."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_STEP = re.compile(r"\.?([^.\[\]'\"]+)|\[(\d+)\]|\[\*\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")

Step = str | int | None  # None: every item


class PathError(ValueError):
    """The path cannot be read, or leads nowhere."""


def parse_path(text: str) -> tuple[Step, ...]:
    """Raises PathError."""
    rest = text.strip().removeprefix("$")
    steps: list[Step] = []
    place = 0
    while place < len(rest):
        found = _STEP.match(rest, place)
        if found is None:
            raise PathError(f"{text!r} is no path; write it like $.data.items or items[0].id")
        name, index, single, double = found.groups()
        steps.append(int(index) if index is not None else name or single or double)
        place = found.end()
    return tuple(steps)


def values_at(value: Any, steps: tuple[Step, ...]) -> Iterator[Any]:
    """Yield what the path leads to. Raises PathError where it leads nowhere."""
    if not steps:
        yield value
        return
    step, *rest = steps
    if step is None:
        if not isinstance(value, list):
            raise PathError(f"[*] wants a list, and finds {_kind(value)}")
        for item in value:
            yield from values_at(item, tuple(rest))
        return
    try:
        inner = value[step]
    except (KeyError, IndexError, TypeError):
        raise PathError(f"there is no {step!r} in {_kind(value)}") from None
    yield from values_at(inner, tuple(rest))


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {', '.join(map(repr, list(value)[:10])) or 'no names'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "null" if value is None else repr(value)[:40]

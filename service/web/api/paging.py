"""Cursor paging over lists that are ordered by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Identified(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=Identified)


def page_of(found: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """Split what was found with `limit + 1` into the page and the cursor of the next one."""
    if len(found) <= limit:
        return found, None
    page = found[:limit]
    return page, page[-1].id

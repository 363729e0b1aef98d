"""Makes an error of chained assignment, which pandas only warns of: what was assigned would be lost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pandas.errors import ChainedAssignmentError  # type: ignore[attr-defined]  # the stubs lack it


@contextmanager
def refused_chained_assignment() -> Iterator[None]:
    """Raise pandas' warning of chained assignment wherever it is given, also where warnings are silenced.

    No filter could: blocks silence warnings in their functions, libraries do for a moment, and filters belong
    to all threads at once.
    """
    before = warnings.warn

    def warn(
        message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any
    ) -> None:
        if isinstance(category, type) and issubclass(category, ChainedAssignmentError):
            raise category(message)
        before(message, category, stacklevel + 1, source, **more)

    warnings.warn = warn
    try:
        yield
    finally:
        warnings.warn = before

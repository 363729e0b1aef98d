"""Frames of Polars, which need not be installed: known by their names, loaded only to be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.errors import NotStorableError
from pipelines.io.errors import ConnectorError


def is_polars(value: Any) -> bool:
    return type(value).__name__ == "DataFrame" and _is_of_polars(value)


def is_lazy(value: Any) -> bool:
    return type(value).__name__ == "LazyFrame" and _is_of_polars(value)


def _is_of_polars(value: Any) -> bool:
    return type(value).__module__.startswith("polars.")


def write_polars(frame: Any, path: Path) -> None:
    """Write a frame in the form that Polars reads without loss; NotStorableError where it has none."""
    try:
        frame.write_ipc(path)
    except Exception as error:  # of whatever class: Polars need not be imported here
        if isinstance(error, OSError):
            raise
        raise NotStorableError(f"Polars cannot store this frame: {error}") from error


def read_polars(path: Path) -> Any:
    return _polars().read_ipc(path)


def read_lazy(path: Path) -> Any:
    return read_polars(path).lazy()


def polars_of(table: pa.Table) -> Any:
    """Return an Arrow table as a frame of Polars; JSON and the like as what they are stored in."""
    fields = [
        field.with_type(field.type.storage_type) if isinstance(field.type, pa.BaseExtensionType) else field
        for field in table.schema
    ]
    return _polars().from_arrow(table.cast(pa.schema(fields)))


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise ConnectorError("this needs Polars, which is not installed: pip install polars") from None
    return polars

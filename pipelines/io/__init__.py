"""Connectors: how blocks read and write the world outside.

    from pipelines.io import DuckDB, Files, Postgres

A connector is loaded when its name is first used, so that the package itself stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.io.duckdb import DuckDB
    from pipelines.io.files import Files
    from pipelines.io.objects.gcs import GoogleCloudStorage
    from pipelines.io.postgres import Postgres

__all__ = ["CONNECTORS", "DuckDB", "Files", "GoogleCloudStorage", "Postgres"]

# Every connector by its class name, with the module it lives in.
CONNECTORS = {
    "DuckDB": "pipelines.io.duckdb",
    "Files": "pipelines.io.files",
    "GoogleCloudStorage": "pipelines.io.objects.gcs",
    "Postgres": "pipelines.io.postgres",
}


def __getattr__(name: str) -> Any:
    if name not in CONNECTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(CONNECTORS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

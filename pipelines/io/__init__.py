"""Connectors: how blocks read and write the world outside.

    from pipelines.io import DuckDB, Files, Postgres

A connector is loaded when its name is first used, so that the package itself stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.io.bigquery import BigQuery
    from pipelines.io.duckdb import DuckDB
    from pipelines.io.files import Files
    from pipelines.io.mysql import MySQL
    from pipelines.io.objects.gcs import GoogleCloudStorage
    from pipelines.io.objects.s3 import S3
    from pipelines.io.postgres import Postgres
    from pipelines.io.sqlalchemy import SQLAlchemy
    from pipelines.io.sqlite import SQLite

__all__ = [
    "CONNECTORS",
    "S3",
    "BigQuery",
    "DuckDB",
    "Files",
    "GoogleCloudStorage",
    "MySQL",
    "Postgres",
    "SQLAlchemy",
    "SQLite",
]

# Every connector by its class name, with the module it lives in.
CONNECTORS = {
    "BigQuery": "pipelines.io.bigquery",
    "DuckDB": "pipelines.io.duckdb",
    "Files": "pipelines.io.files",
    "GoogleCloudStorage": "pipelines.io.objects.gcs",
    "MySQL": "pipelines.io.mysql",
    "Postgres": "pipelines.io.postgres",
    "S3": "pipelines.io.objects.s3",
    "SQLAlchemy": "pipelines.io.sqlalchemy",
    "SQLite": "pipelines.io.sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in CONNECTORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(CONNECTORS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""For each connector of the registry, what the conformance suite has to know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from pipelines.io import DuckDB, Files, GoogleCloudStorage, Postgres
from pipelines.io.base import Connector
from tests.parts.postgres import PostgresServer
from tests.pipelines.io.projects import postgres_keys, read_profiles, write_profiles


class Harness(ABC):
    """One connector on a real part: where it exports to, and how that is read back."""

    connector: ClassVar[type[Connector]]
    required_key: ClassVar[str | None]  # of the profile
    fixture: ClassVar[str | None] = None  # of the part it runs on, where that is not Postgres

    def __init__(self, root: Path, server: PostgresServer, database: str, part: Any = None) -> None:
        self.root = root
        self.part = part
        self.keys = self.profile_keys(server, database)
        write_profiles(root, default=self.keys)

    @abstractmethod
    def profile_keys(self, server: PostgresServer, database: str) -> dict[str, Any]: ...

    @abstractmethod
    def target(self, name: str) -> tuple[Any, ...]:
        """Return the positional arguments of `export` that say where to."""

    @abstractmethod
    def query(self, name: str) -> str:
        """Return what `load` wants, to read that target."""

    @property
    def append(self) -> dict[str, Any]:
        """The keywords of an export that adds rows."""
        return {"if_exists": "append"}

    def made(self) -> Connector:
        return self.connector.from_profile(read_profiles(self.root).profile())

    def export(self, df: Any, name: str = "trips", **options: Any) -> int:
        return self.made().export(df, *self.target(name), **options)

    def load(self, name: str = "trips") -> pd.DataFrame:
        return self.made().load(self.query(name))


class PostgresHarness(Harness):
    connector = Postgres
    required_key = "POSTGRES_HOST"

    def profile_keys(self, server: PostgresServer, database: str) -> dict[str, Any]:
        return postgres_keys(server, database)

    def target(self, name: str) -> tuple[Any, ...]:
        return ("lake", name)

    def query(self, name: str) -> str:
        return f'SELECT * FROM lake."{name}"'


class DuckDBHarness(PostgresHarness):
    connector = DuckDB
    required_key = "DUCKDB_DATABASE"

    def profile_keys(self, server: PostgresServer, database: str) -> dict[str, Any]:
        return {"DUCKDB_DATABASE": "warehouse.duckdb"}


class FilesHarness(Harness):
    connector = Files
    required_key = None

    def profile_keys(self, server: PostgresServer, database: str) -> dict[str, Any]:
        return {"FILES_ROOT": "lake"}

    def target(self, name: str) -> tuple[Any, ...]:
        return (f"{name}.parquet",)

    def query(self, name: str) -> str:
        return f"{name}.parquet"

    @property
    def append(self) -> dict[str, Any]:
        return {"if_exists": "append", "partition_cols": []}


class GoogleCloudStorageHarness(Harness):
    connector = GoogleCloudStorage
    required_key = None
    fixture = "gcs"

    def profile_keys(self, server: PostgresServer, database: str) -> dict[str, Any]:
        self.bucket = self.part.make_bucket()
        return {"GOOGLE_STORAGE_ENDPOINT": self.part.endpoint}

    def target(self, name: str) -> tuple[Any, ...]:
        return (self.bucket, f"lake/{name}.parquet")

    def query(self, name: str) -> str:
        return f"gs://{self.bucket}/lake/{name}.parquet"

    @property
    def append(self) -> dict[str, Any]:
        return {"if_exists": "append", "partition_cols": []}


HARNESSES: dict[str, type[Harness]] = {
    "DuckDB": DuckDBHarness,
    "Files": FilesHarness,
    "GoogleCloudStorage": GoogleCloudStorageHarness,
    "Postgres": PostgresHarness,
}

"""For each connector of the registry, what the conformance suite has to know of it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from pipelines.io import (
    S3,
    BigQuery,
    DuckDB,
    Files,
    GoogleCloudStorage,
    MySQL,
    Postgres,
    SQLAlchemy,
    SQLite,
)
from pipelines.io.base import Connector
from tests.pipelines.io.projects import read_profiles, write_profiles


class Harness(ABC):
    """One connector on a real part: where it exports to, and how that is read back."""

    connector: ClassVar[type[Connector]]
    required_key: ClassVar[str | None]  # of the profile
    fixture: ClassVar[str | None] = None  # of the part it runs on

    # What the system outside cannot do, each with the reason. `lacks`: a name of the suite, such as "merge".
    lacks: ClassVar[Mapping[str, str]] = {}
    # Columns of the suite that are refused; and those that come back as something else: by that function.
    refuses: ClassVar[Mapping[str, str]] = {}
    changes: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {}

    crash_points: ClassVar[tuple[str, ...]] = ("effect.before_commit", "effect.after_commit")

    def __init__(self, root: Path, part: Any = None) -> None:
        self.root = root
        self.part = part
        self.keys = self.profile_keys()
        write_profiles(root, default=self.keys)

    @abstractmethod
    def profile_keys(self) -> dict[str, Any]: ...

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

    def load(self, name: str = "trips", **options: Any) -> Any:
        return self.made().load(self.query(name), **options)

    def rows(self, name: str = "trips") -> list[dict[str, Any]]:
        """Return what is there as sorted dictionaries."""
        found: pd.DataFrame = self.load(name)
        return found.sort_values(list(found.columns)).to_dict("records")


class PostgresHarness(Harness):
    connector = Postgres
    required_key = "POSTGRES_HOST"
    fixture = "postgres_profile_keys"

    def profile_keys(self) -> dict[str, Any]:
        return dict(self.part)

    def target(self, name: str) -> tuple[Any, ...]:
        return ("lake", name)

    def query(self, name: str) -> str:
        return f'SELECT * FROM lake."{name}"'


class DuckDBHarness(PostgresHarness):
    connector = DuckDB
    required_key = "DUCKDB_DATABASE"
    fixture = None

    def profile_keys(self) -> dict[str, Any]:
        return {"DUCKDB_DATABASE": "warehouse.duckdb"}


class MySQLHarness(PostgresHarness):
    connector = MySQL
    required_key = "MYSQL_HOST"
    fixture = "mysql_profile_keys"
    crash_points = (*Harness.crash_points, "effect.before_rename", "effect.after_rename")
    refuses: ClassVar[Mapping[str, str]] = {
        "endless": "MySQL's numbers have an end",
        "span": "MySQL has no type for durations",
    }
    changes: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "id": ("MySQL has no type for UUIDs: they are texts", str),
    }

    def target(self, name: str) -> tuple[Any, ...]:
        return (None, name)

    def query(self, name: str) -> str:
        return f"SELECT * FROM `{name}`"


class SQLiteHarness(Harness):
    connector = SQLite
    required_key = "SQLITE_DATABASE"

    def profile_keys(self) -> dict[str, Any]:
        return {"SQLITE_DATABASE": "warehouse.sqlite"}

    def target(self, name: str) -> tuple[Any, ...]:
        return (None, name)

    def query(self, name: str) -> str:
        return f'SELECT * FROM "{name}"'


class SQLAlchemyHarness(SQLiteHarness):
    """By a URL; the room's words for databases that have no object of their own are tried on Postgres."""

    connector = SQLAlchemy
    required_key = "SQLALCHEMY_URL"
    fixture = "postgres_profile_keys"
    refuses: ClassVar[Mapping[str, str]] = {"span": "most databases have no type for durations"}
    changes: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "id": ("most databases have no type for UUIDs: they are texts", str),
        "facts": ("not every database has JSON: it is text", partial(json.dumps, ensure_ascii=False)),
    }
    lacks: ClassVar[Mapping[str, str]] = {"small": "what drivers give says nothing of the width of integers"}

    def profile_keys(self) -> dict[str, Any]:
        server = self.part
        return {
            "SQLALCHEMY_URL": f"postgresql+psycopg2://{server['POSTGRES_USER']}@/{server['POSTGRES_DBNAME']}"
            f"?host={server['POSTGRES_HOST']}"
        }


class FilesHarness(Harness):
    connector = Files
    required_key = None
    crash_points = (*Harness.crash_points, "effect.part")
    lacks: ClassVar[Mapping[str, str]] = {"merge": "a file has no keys", "sql": "files have no SQL"}

    def profile_keys(self) -> dict[str, Any]:
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
    crash_points = (*Harness.crash_points, "effect.part")
    lacks: ClassVar[Mapping[str, str]] = {"merge": "an object has no keys", "sql": "objects have no SQL"}

    def profile_keys(self) -> dict[str, Any]:
        self.bucket = self.part.make_bucket()
        return {"GOOGLE_STORAGE_ENDPOINT": self.part.endpoint}

    def target(self, name: str) -> tuple[Any, ...]:
        return (self.bucket, f"lake/{name}.parquet")

    def query(self, name: str) -> str:
        return f"gs://{self.bucket}/lake/{name}.parquet"

    @property
    def append(self) -> dict[str, Any]:
        return {"if_exists": "append", "partition_cols": []}


class S3Harness(GoogleCloudStorageHarness):
    connector = S3
    fixture = "s3"

    def profile_keys(self) -> dict[str, Any]:
        self.bucket = self.part.make_bucket()
        return dict(self.part.keys)

    def query(self, name: str) -> str:
        return f"s3://{self.bucket}/lake/{name}.parquet"


class BigQueryHarness(Harness):
    connector = BigQuery
    required_key = None
    fixture = "bigquery"
    crash_points = (*Harness.crash_points, "effect.staged")
    lacks: ClassVar[Mapping[str, str]] = {
        "small": "BigQuery has one type for whole numbers",
        "quotes": "BigQuery takes no quotes in the names of columns",
        "raw": "the emulator's load jobs take no BYTES from Parquet",
    }
    refuses: ClassVar[Mapping[str, str]] = {
        "span": "load jobs take no INTERVAL",
    }
    changes: ClassVar[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
        "id": ("BigQuery has no type for UUIDs: they are texts", str),
    }

    def profile_keys(self) -> dict[str, Any]:
        self.dataset = self.part.make_dataset()
        return {"GOOGLE_BIGQUERY_ENDPOINT": self.part.endpoint, "GOOGLE_PROJECT_ID": self.part.project}

    def target(self, name: str) -> tuple[Any, ...]:
        return (self.dataset, name)

    def query(self, name: str) -> str:
        return f"SELECT * FROM `{self.dataset}.{name}`"


HARNESSES: dict[str, type[Harness]] = {
    "BigQuery": BigQueryHarness,
    "DuckDB": DuckDBHarness,
    "Files": FilesHarness,
    "GoogleCloudStorage": GoogleCloudStorageHarness,
    "MySQL": MySQLHarness,
    "Postgres": PostgresHarness,
    "S3": S3Harness,
    "SQLAlchemy": SQLAlchemyHarness,
    "SQLite": SQLiteHarness,
}

# Connectors that no server here can try, with what is tried of them in their place.
UNTRIED: dict[str, str] = {}

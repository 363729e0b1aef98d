"""The databases that SQL blocks run on, and what each is called where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """What `data_provider` may say: one database of `pipelines.io`."""

    connector: str
    glot: str  # what sqlglot calls its SQL
    tell_key: str  # the key of a profile that tells it
    database_key: str | None  # the key that names the one database of a profile; None where there are several


PROVIDERS: Mapping[str, Provider] = {
    "bigquery": Provider("BigQuery", "bigquery", "GOOGLE_BIGQUERY_DATASET", None),
    "duckdb": Provider("DuckDB", "duckdb", "DUCKDB_DATABASE", "DUCKDB_DATABASE"),
    "mysql": Provider("MySQL", "mysql", "MYSQL_HOST", None),
    "postgres": Provider("Postgres", "postgres", "POSTGRES_HOST", "POSTGRES_DBNAME"),
    "sqlite": Provider("SQLite", "sqlite", "SQLITE_DATABASE", "SQLITE_DATABASE"),
}

# Those that only Mage runs SQL blocks on.
ONLY_OF_MAGE = frozenset(
    {
        "athena",
        "clickhouse",
        "druid",
        "fabric",
        "mssql",
        "pinot",
        "redshift",
        "snowflake",
        "spark",
        "sqlserver",
        "trino",
    }
)

"""DuckDB: a warehouse in one file, which several processes may want at once."""

from pipelines.io.duckdb.connector import DuckDB, DuckDBSettings

__all__ = ["DuckDB", "DuckDBSettings"]

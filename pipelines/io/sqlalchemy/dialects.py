"""Which object speaks for which database."""

from __future__ import annotations

import sqlalchemy as sa

from pipelines.io.sqlalchemy.dialect import Dialect
from pipelines.io.sqlalchemy.mysql import MySQLDialect
from pipelines.io.sqlalchemy.others import MSSQLDialect, OracleDialect, PostgresDialect, SnowflakeDialect
from pipelines.io.sqlalchemy.sqlite import SQLiteDialect

_BY_NAME: dict[str, type[Dialect]] = {
    "mariadb": MySQLDialect,
    "mssql": MSSQLDialect,
    "mysql": MySQLDialect,
    "oracle": OracleDialect,
    "postgresql": PostgresDialect,
    "redshift": PostgresDialect,
    "snowflake": SnowflakeDialect,
    "sqlite": SQLiteDialect,
}


def dialect_of(dialect: sa.Dialect) -> Dialect:
    return _BY_NAME.get(dialect.name, Dialect)(dialect)

"""Databases whose connectors were written by their manuals, and tried on no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pipelines.io.columns import TableColumn
from pipelines.io.sqlalchemy.dialect import Dialect
from pipelines.io.sqltext import Relation

if TYPE_CHECKING:
    from pipelines.io.sqlalchemy.session import Session


class PostgresDialect(Dialect):
    """Postgres and Redshift, for those who write a URL; the connector Postgres knows more of them."""

    label: ClassVar[str] = "Postgres"
    glot: ClassVar[str | None] = "postgres"


class MSSQLDialect(Dialect):
    """SQL Server: CREATE and DROP are part of the transaction, and a `#` makes a table temporary."""

    label: ClassVar[str] = "SQL Server"
    glot: ClassVar[str | None] = "tsql"

    def create_stage(self, session: Session, name: str, columns: Sequence[tuple[str, str]]) -> str:
        stage = self.quoted(_temporary(name))
        session.execute(f"CREATE TABLE {stage} ({self.definitions(columns)})")
        session.scratch.append(stage)
        return stage

    def stage_query(self, session: Session, name: str, query: str) -> str:
        stage = self.quoted(_temporary(name))
        session.execute(f"SELECT * INTO {stage} FROM ({query}\n) AS query")
        session.scratch.append(stage)
        return stage

    def staged_columns(self, session: Session, name: str) -> tuple[TableColumn, ...]:
        return self.columns_of(session, Relation("", _temporary(name))) or ()

    def staged_name(self, name: str) -> str:
        return self.quoted(_temporary(name))

    def put_in_place(self, session: Session, aside: Relation, target: Relation) -> None:
        raise NotImplementedError  # tables are made in their place here

    def limited(self, query: str, limit: int) -> str:
        return f"SELECT TOP ({limit}) * FROM ({query}\n) AS limited"


class OracleDialect(Dialect):
    """Oracle: every CREATE and RENAME commits what came before it, as in MySQL."""

    label: ClassVar[str] = "Oracle"
    glot: ClassVar[str | None] = "oracle"
    ddl_commits: ClassVar[bool] = True

    def create_stage(self, session: Session, name: str, columns: Sequence[tuple[str, str]]) -> str:
        stage = self.quoted(f"ora$ptt_{name}")
        session.execute(
            f"CREATE PRIVATE TEMPORARY TABLE {stage} ({self.definitions(columns)}) "
            f"ON COMMIT PRESERVE DEFINITION"
        )
        session.scratch.append(stage)
        return stage

    def staged_name(self, name: str) -> str:
        return self.quoted(f"ora$ptt_{name}")

    def limited(self, query: str, limit: int) -> str:
        return f"SELECT * FROM ({query}\n) FETCH FIRST {limit} ROWS ONLY"


class SnowflakeDialect(Dialect):
    """Snowflake: every CREATE and RENAME commits what came before it, as in MySQL."""

    label: ClassVar[str] = "Snowflake"
    glot: ClassVar[str | None] = "snowflake"
    ddl_commits: ClassVar[bool] = True


def _temporary(name: str) -> str:
    return f"#{name}"

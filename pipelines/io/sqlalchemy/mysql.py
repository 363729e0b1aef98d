"""MySQL and MariaDB.

Every CREATE and RENAME commits what came before it: see `session` for how an export is one step all the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import sqlalchemy as sa

from pipelines.io.columns import TableColumn, arrow_kind
from pipelines.io.errors import ConnectionFailed, ExportRefused
from pipelines.io.sqlalchemy.dialect import ColumnType, Dialect, ResultColumn
from pipelines.io.sqlalchemy.mysqlrows import insert_statements
from pipelines.io.sqlalchemy.mysqltypes import column_name, kind_of, reader_of
from pipelines.io.sqltext import Relation, escaped_literal

if TYPE_CHECKING:
    from pipelines.io.sqlalchemy.session import Session

_LOCK_SECONDS = 600
_NO_TABLE, _NO_DATABASE = 1146, 1049
_LOST = frozenset({1053, 1927, 2006, 2013, 2055, 4031})
_REFUSED = frozenset({1044, 1045, 1049, 1130, 1698})
_NEAR = re.compile(r"near '(?P<near>.*)' at line (?P<line>\d+)", re.DOTALL)
_UNKNOWN = re.compile(r"Unknown column '([^']+)'|Table '([^']+)' doesn't exist")

_JSON_COLUMNS = """
SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA = {schema} AND TABLE_NAME = {table} AND CHECK_CLAUSE LIKE 'json\\_valid(%'
"""
_DEPENDENTS = """
SELECT CONCAT('the foreign key ', CONSTRAINT_NAME, ' of ', TABLE_NAME)
FROM information_schema.KEY_COLUMN_USAGE
WHERE REFERENCED_TABLE_SCHEMA = {schema} AND REFERENCED_TABLE_NAME = {table}
UNION
SELECT CONCAT('the trigger ', TRIGGER_NAME) FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {table}
"""


class MySQLDialect(Dialect):
    label: ClassVar[str] = "MySQL"
    glot: ClassVar[str | None] = "mysql"
    ddl_commits: ClassVar[bool] = True

    def literal(self, text: str) -> str:
        return escaped_literal(text)

    def place(self, name: str) -> str | None:
        return f"%({name})s"

    @property
    def percent(self) -> str:
        return "%%"

    def lock(self, session: Session, name: str) -> None:
        key = _lock_key(name)
        found = session.execute(f"SELECT GET_LOCK({self.literal(key)}, {_LOCK_SECONDS})").scalar()
        if str(found) != "1":
            raise ConnectionFailed(f"another process has held {name} for {_LOCK_SECONDS} seconds")

    def unlock(self, session: Session) -> None:
        for name in session.locks:
            session.execute(f"SELECT RELEASE_LOCK({self.literal(_lock_key(name))})")
        session.locks.clear()

    def column_type(self, name: str, arrow: pa.DataType, *, is_key: bool = False) -> ColumnType:
        kind = arrow_kind(name, arrow)
        if kind == "interval":
            raise ExportRefused(
                f"column {name!r} holds durations, which MySQL has no type for; write them as seconds, for "
                f"instance with .dt.total_seconds()"
            )
        return ColumnType(column_name(arrow, kind, is_key=is_key), kind)

    def columns_of(self, session: Session, relation: Relation) -> tuple[TableColumn, ...] | None:
        try:
            found = session.execute(f"SHOW COLUMNS FROM {self.relation(relation)}").fetchall()
        except sa.exc.DBAPIError as error:
            if _code(error) in (_NO_TABLE, _NO_DATABASE):
                return None
            raise
        is_json: set[str] = set()
        if relation.schema and any(str(row[1]) == "longtext" for row in found):
            is_json = self.json_columns(session.connection, relation.schema, relation.name)
        return tuple(
            _table_column(str(name), "json" if name in is_json else str(of), default, str(extra))
            for name, of, _, _, default, extra in found
        )

    @staticmethod
    def json_columns(connection: sa.Connection, schema: str, table: str) -> set[str]:
        """Return the columns of MariaDB's JSON, which is a long text that is checked; MySQL has a type."""
        if not getattr(connection.dialect, "is_mariadb", False):
            return set()
        found = connection.exec_driver_sql(
            _JSON_COLUMNS.format(schema=escaped_literal(schema), table=escaped_literal(table))
        ).fetchall()
        return {str(row[0]) for row in found}

    def create_schema(self, session: Session, schema: str | None) -> None:
        if not schema or schema == session.schema:
            return  # the one we are connected to
        known = f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {self.literal(schema)}"
        if session.execute(known).first() is None:
            session.execute(f"CREATE DATABASE IF NOT EXISTS {self.quoted(schema)}")

    def drop_scratch(self, session: Session, table: str) -> None:
        session.execute(f"DROP TEMPORARY TABLE {table}")

    def refuse_dependents(self, session: Session, relation: Relation) -> None:
        found = session.execute(
            _DEPENDENTS.format(schema=self.literal(relation.schema), table=self.literal(relation.name))
        ).fetchall()
        if found:
            lost = ", ".join(str(row[0]) for row in found)
            raise ExportRefused(
                f"cannot replace {relation} by a table with other columns: {lost} "
                f"would be lost. Keep the names and types of its columns, or drop what depends on it"
            )

    def put_in_place(self, session: Session, aside: Relation, target: Relation) -> None:
        old = Relation(target.schema, aside.name.replace("_new_", "_old_"))
        session.execute(f"DROP TABLE IF EXISTS {self.relation(old)}")
        renames = [(aside, target)]
        if self.columns_of(session, target) is not None:
            renames.insert(0, (target, old))
        listed = ", ".join(f"{self.relation(a)} TO {self.relation(b)}" for a, b in renames)
        session.execute(f"RENAME TABLE {listed}")
        session.execute(f"DROP TABLE IF EXISTS {self.relation(old)}")

    def update_from(
        self, session: Session, stage: str, target: Relation, keys: Sequence[str], others: Sequence[str]
    ) -> None:
        changes = ", ".join(f"t.{self.quoted(name)} = s.{self.quoted(name)}" for name in others)
        same = self.same_key("s", "t", keys)
        session.execute(f"UPDATE {self.relation(target)} t JOIN {stage} s ON {same} SET {changes}")

    def insert(
        self, session: Session, table: str, batch: pa.RecordBatch, kinds: Sequence[str | None]
    ) -> None:
        cursor = session.connection.connection.cursor()
        try:
            for statement in insert_statements(f"{table} ({self.listed(batch.schema.names)})", batch):
                cursor.execute(statement)
        except session.connection.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DBAPIError.instance("", None, error, type(error)) from error
        finally:
            cursor.close()

    def described(self, session: Session, cursor: Any, declared: Any) -> list[ResultColumn]:
        # Of the driver's own result: its description does not tell texts from bytes.
        fields = cursor._result.fields
        is_json = self._json_fields(session, fields)
        return [
            ResultColumn(field.name, reader_of(field, place in is_json)) for place, field in enumerate(fields)
        ]

    def _json_fields(self, session: Session, fields: Sequence[Any]) -> set[int]:
        """Return the places of MariaDB's JSON; asked by a second connection, since the first one reads."""
        texts = [(place, field) for place, field in enumerate(fields) if _may_be_json(field)]
        if not texts or not getattr(session.connection.dialect, "is_mariadb", False):
            return set()
        found: dict[tuple[str, str], set[str]] = {}
        with session.connection.engine.connect() as other:
            for _, field in texts:
                table = (field.db.decode(), field.org_table)
                if table not in found:
                    found[table] = self.json_columns(other, *table)
        return {
            place for place, field in texts if field.org_name in found[(field.db.decode(), field.org_table)]
        }

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        return _code(error) in _LOST

    def is_refusal(self, error: sa.exc.DBAPIError) -> bool:
        return _code(error) in _REFUSED

    def sentence(self, error: sa.exc.DBAPIError) -> str:
        arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
        return " ".join(str(arguments[1] if len(arguments) > 1 else error.orig).split())

    def offset(self, error: sa.exc.DBAPIError) -> int | None:
        message, statement = str(getattr(error.orig, "args", ("", ""))[-1]), error.statement or ""
        near = _NEAR.search(message)
        if near is not None:
            start = sum(len(line) for line in statement.splitlines(keepends=True)[: int(near["line"]) - 1])
            found = statement.find(near["near"][:60], start)
            return found if near["near"] and found >= 0 else start
        unknown = _UNKNOWN.search(message)
        if unknown is None:
            return None
        word = re.escape((unknown[1] or unknown[2]).split(".")[-1])
        places = [place.start() for place in re.finditer(rf"(?<!\w){word}(?!\w)", statement)]
        return places[0] if places else None


def _table_column(name: str, of: str, default: Any, extra: str) -> TableColumn:
    # Older servers give integers a width that says nothing; but tinyint(1) says boolean.
    plain = of if of.startswith("tinyint(1)") else re.sub(r"int\(\d+\)", "int", of)
    return TableColumn(name, plain, kind_of(plain), default is not None or bool(extra))


def _lock_key(name: str) -> str:
    return f"millrace:{hashlib.sha256(name.encode()).hexdigest()[:32]}"  # at most 64 characters


def _may_be_json(field: Any) -> bool:
    return field.type_code == 252 and field.charsetnr != 63 and bool(field.org_table)


def _code(error: sa.exc.DBAPIError) -> int | None:
    arguments: tuple[Any, ...] = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def session_settings() -> str:
    """Return the statement that makes every session alike: times in UTC, and no value changed in silence."""
    return (
        "SET SESSION time_zone = '+00:00', sql_mode = CONCAT_WS(',', NULLIF(REPLACE(@@sql_mode, "
        "'NO_BACKSLASH_ESCAPES', ''), ''), 'STRICT_TRANS_TABLES')"
    )

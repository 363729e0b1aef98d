"""Large results by ADBC: COPY in binary, straight into Arrow, on a connection of its own.

The connection costs as much as some ten thousand rows, since the driver first reads the catalog of types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import dbapi as manager
from psycopg2.extensions import make_dsn

from pipelines.io.errors import ConnectionFailed, QueryFailed
from pipelines.io.postgres.connecting import SESSION, PostgresSettings, failure
from pipelines.io.postgres.fields import (
    ARROW,
    BYTES,
    JSON,
    NUMERIC,
    OID,
    TEXTS,
    UUIDS,
    Field,
    streamed,
    streamed_type,
)
from pipelines.io.postgres.reading import selected
from pipelines.io.sqltext import literal

_BATCH_BYTES = 4 << 20
_BATCH_OPTION = "adbc.postgresql.batch_size_hint_bytes"

# Whoever has exported a snapshot holds its tables while it waits for us: behind a third one, who waits for
# that lock, we would wait for ever.
_LOCK_TIMEOUT = "2s"

# Types that the driver carries as we want them. All others come as text, arrays as JSON.
_CARRIED = frozenset({*ARROW, *JSON, *TEXTS, NUMERIC, BYTES, UUIDS}) - {OID}

# Not a cast to text, which prints addresses otherwise.
_AS_PRINTED = "CASE WHEN {0} IS DISTINCT FROM NULL THEN concat({0}) END"

# The server's infinite moments, which the driver moves past the end of the range, to its beginning.
_NO_MOMENT = -(2**63) + 946_684_800_000_000
_NO_DAY = -(2**31) + 10_957


def read_table(
    settings: PostgresSettings, query: str, fields: Sequence[Field], snapshot: str | None = None
) -> pa.Table:
    """Return the rows of a described query; columns have their positions as names.

    With a snapshot, which another transaction has exported, they are as that one sees them.
    """
    with _running(settings, query, fields, snapshot) as reader:
        table = reader.read_all().rename_columns([str(place) for place in range(len(fields))])
    _refuse_infinite(table, fields)
    return table


def stream_query(settings: PostgresSettings, query: str, fields: Sequence[Field]) -> pa.RecordBatchReader:
    """Return the rows of a described query as they come; the query runs when the first is asked for."""
    schema = pa.schema([(field.name, streamed_type(field)) for field in fields])

    def batches() -> Iterator[pa.RecordBatch]:
        with _running(settings, query, fields) as reader:
            for batch in reader:
                yield from _typed(pa.Table.from_batches([batch]), fields, schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _typed(table: pa.Table, fields: Sequence[Field], schema: pa.Schema) -> pa.Table:
    _refuse_infinite(table, fields)
    columns = [streamed(field, table.column(place)) for place, field in enumerate(fields)]
    return pa.table(columns, schema=schema)


@contextmanager
def _running(
    settings: PostgresSettings, query: str, fields: Sequence[Field], snapshot: str | None = None
) -> Iterator[pa.RecordBatchReader]:
    with _connected(settings) as connection, connection.cursor() as cursor:
        try:
            if snapshot is not None:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(f"SET TRANSACTION SNAPSHOT {literal(snapshot)}")
                cursor.execute(f"SET LOCAL lock_timeout = {literal(_LOCK_TIMEOUT)}")
            cursor.adbc_statement.set_options(**{_BATCH_OPTION: str(_BATCH_BYTES)})
            cursor.execute(_carried(query, fields))
            yield cursor.fetch_record_batch()
        except manager.Error as error:
            raise _told(settings, error) from error


@contextmanager
def _connected(settings: PostgresSettings) -> Iterator[Any]:
    try:
        connection = adbc.connect(make_dsn(**settings.arguments), autocommit=True)
    except manager.Error as error:
        # Not chained: the driver's own error may repeat what it was given.
        raise failure(settings, str(error)) from None
    with connection:
        for statement in SESSION.split(";"):
            with connection.cursor() as cursor:
                cursor.execute(statement)
        yield connection


def _carried(query: str, fields: Sequence[Field]) -> str:
    forms = [_form(field) for field in fields]
    # The driver writes something behind the query, which may end in a comment.
    return f"{query}\n" if set(forms) == {"{0}"} else selected(query, forms)


def _form(field: Field) -> str:
    if field.is_array:
        return "to_jsonb({0})"
    if field.oid == OID:
        return "{0}::bigint"
    return "{0}" if field.oid in _CARRIED else _AS_PRINTED


def _refuse_infinite(table: pa.Table, fields: Sequence[Field]) -> None:
    for field, column in zip(fields, table.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            least, limit = pc.min(column.cast(pa.int64())).as_py(), _NO_MOMENT
        elif pa.types.is_date32(column.type):
            least, limit = pc.min(column.cast(pa.int32())).as_py(), _NO_DAY
        else:
            continue
        if least is not None and least <= limit:
            raise QueryFailed(
                f"a value of the column {field.name!r} fits no Python type: it is infinite. "
                f"Cast the column to text in the query"
            )


def _told(settings: PostgresSettings, error: manager.Error) -> ConnectionFailed | QueryFailed:
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
        return ConnectionFailed(
            f"the connection to Postgres at {settings.address} (profile {settings.profile!r}) was lost: "
            f"{' '.join(str(error).split())}"
        )
    told = [_detail(error, part) for part in ("MESSAGE_PRIMARY", "MESSAGE_DETAIL", "MESSAGE_HINT")]
    return QueryFailed(". ".join(part for part in told if part) or " ".join(str(error).split()))


def _detail(error: manager.Error, part: str) -> str:
    """Return a part of the server's message; the driver gives names and values as bytes."""
    for name, value in error.details or ():
        if _text(name) == f"PG_DIAG_{part}":
            return _text(value).rstrip(".")
    return ""


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""Rows of a query, by COPY where the statement allows it, with the types of its columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2
import pyarrow as pa
import pyarrow.csv as arrow_csv
from psycopg2 import errorcodes

from pipelines.io.errors import QueryFailed
from pipelines.io.postgres.connecting import Cursor
from pipelines.io.postgres.fields import ARROW, OBJECTS, Field
from pipelines.io.sqltext import quoted

# What the server answers to DECLARE for statements that cannot be a cursor, and so not be copied either.
_NO_CURSOR = frozenset(
    {errorcodes.SYNTAX_ERROR, errorcodes.FEATURE_NOT_SUPPORTED, errorcodes.INVALID_CURSOR_DEFINITION}
)


def describe(cursor: Cursor, query: str) -> list[Field] | None:
    """Return the columns of a query without running it, or None when it must be run to be known."""
    cursor.execute("SAVEPOINT millrace_describe")
    try:
        cursor.execute(f"DECLARE millrace_describe NO SCROLL CURSOR FOR {query}")
        cursor.execute("FETCH 0 FROM millrace_describe")
        fields = [
            Field(column.name, column.type_code, column.precision, column.scale)
            for column in cursor.description or ()
        ]
        cursor.execute("CLOSE millrace_describe")
        cursor.execute("RELEASE SAVEPOINT millrace_describe")  # within one, no snapshot is exported
    except psycopg2.Error as error:
        if error.pgcode not in _NO_CURSOR:
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT millrace_describe")
        return None
    return _with_arrays(cursor, fields)


def _with_arrays(cursor: Cursor, fields: list[Field]) -> list[Field]:
    unknown = [field.oid for field in fields if field.oid not in ARROW and field.oid not in OBJECTS]
    if not unknown:
        return fields
    cursor.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s::oid[]) AND typcategory = 'A'", (unknown,))
    arrays = {row[0] for row in cursor.fetchall()}
    return [Field(field.name, field.oid, is_array=True) if field.oid in arrays else field for field in fields]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the server's planner says of a query."""

    expected_bytes: int
    table: str | None  # the one that is read from its beginning to its end, and nothing else done


def plan_of(cursor: Cursor, query: str) -> Plan:
    cursor.execute(f"EXPLAIN (FORMAT JSON) {query}")
    row = cursor.fetchone()
    plan = row[0][0]["Plan"] if row else {}
    is_scan = plan.get("Node Type") == "Seq Scan" and not {"Filter", "Plans"} & plan.keys()
    return Plan(
        int(plan.get("Plan Rows", 0)) * int(plan.get("Plan Width", 0)),
        plan["Relation Name"] if is_scan else None,
    )


def copy_out(cursor: Cursor, query: str, fields: Sequence[Field]) -> pa.Table:
    """Return the rows of a described query; columns have their positions as names, objects come as text."""
    target = io.BytesIO()
    cursor.copy_expert(f"COPY ({_flattened(query, fields)}\n) TO STDOUT (FORMAT csv)", target)
    numbers = [str(place) for place in range(len(fields))]
    types = {number: ARROW.get(field.oid, pa.string()) for number, field in zip(numbers, fields, strict=True)}
    if not target.tell():
        return pa.schema(types.items()).empty_table()
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(pa.py_buffer(target.getbuffer())),
            arrow_csv.ReadOptions(column_names=numbers),
            # A row whose only column is NULL is an empty line.
            arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types=types,
                null_values=[""],
                true_values=["t"],
                false_values=["f"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        names = ", ".join(
            f"{number} is {field.name!r}" for number, field in zip(numbers, fields, strict=True)
        )
        raise QueryFailed(
            f"a value of the result fits no Python type: {error} ({names}). "
            f"Cast the column to text in the query"
        ) from error


def _flattened(query: str, fields: Sequence[Field]) -> str:
    """Let arrays come as JSON, which says where one value ends and the next begins."""
    if not any(field.is_array for field in fields):
        return query
    return selected(query, ["to_jsonb({0})" if field.is_array else "{0}" for field in fields])


def selected(query: str, forms: Sequence[str]) -> str:
    """Select each column of a query in a form of its own; `{0}` stands for the column."""
    names = [quoted(f"c{place}") for place in range(len(forms))]
    columns = ", ".join(form.format(name) for form, name in zip(forms, names, strict=True))
    return f"SELECT {columns} FROM ({query}\n) AS q ({', '.join(names)})"


def fetch(cursor: Cursor, query: str) -> tuple[list[Field], pa.Table, dict[int, list[object]]]:
    """Run what cannot be copied (SHOW, EXPLAIN, INSERT ... RETURNING) and take its few rows one by one.

    Returns columns, rows, and by position the values that the driver has made Python objects of.
    """
    cursor.execute(query)
    if cursor.description is None:
        raise QueryFailed("the statement returns no rows; use execute() for it")
    fields = [Field(column.name, column.type_code) for column in cursor.description]
    rows = cursor.fetchall()
    columns = [
        pa.array([row[place] for row in rows], ARROW[field.oid])
        if field.oid in ARROW
        else pa.nulls(len(rows))
        for place, field in enumerate(fields)
    ]
    objects = {
        place: [row[place] for row in rows] for place, field in enumerate(fields) if field.oid not in ARROW
    }
    return fields, pa.table(columns, names=[str(place) for place in range(len(columns))]), objects

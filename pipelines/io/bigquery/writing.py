"""What an export does: one load job, or one that fills a table aside and one query that writes from there.

A load job writes all rows or none. JSON goes by a table aside, because load jobs take none from Parquet; so
do merges. The table aside has a name from the effect, and an expiry in case nobody is left to remove it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField

from pipelines.io.base import IfExists, OnConflict
from pipelines.io.bigquery.jobs import Jobs
from pipelines.io.bigquery.names import Table, column_names, quoted, quoted_list
from pipelines.io.bigquery.orders import Order
from pipelines.io.bigquery.queries import query_config, run_query
from pipelines.io.bigquery.spooling import write_parquet
from pipelines.io.bigquery.types import field_of, is_json, kind_of
from pipelines.io.columns import FrameColumn, TableColumn, check_columns, check_keys, double_key, example_of
from pipelines.io.errors import ConnectorError, ExportRefused, QueryFailed, TargetExists
from pipelines.io.frames import is_streamed, to_arrow, to_reader

# Steps: the job that changes the target, and the one that fills a table aside.
WRITE, STAGE = "write", "stage"

_KEPT_ASIDE = timedelta(days=1)
_ADDITION = "ALLOW_FIELD_ADDITION"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in a file, ready to be loaded."""

    path: Path
    fields: Sequence[SchemaField]
    count: int


def write_frame(jobs: Jobs, data: Any, order: Order, *, index: bool = False) -> int:
    """Write a frame, or streamed data in bounded memory, and return its rows."""
    existing = existing_table(jobs, order.target)
    check_target(order, existing)
    with TemporaryDirectory(prefix="millrace-") as folder:
        rows = spooled(data, order, existing, Path(folder, "rows.parquet"), index=index)
        try:
            if order.if_exists is IfExists.MERGE or any(map(is_json, rows.fields)):
                with _aside_removed(jobs, order.target):
                    _write_from_aside(jobs, rows, order, existing)
            else:
                _load_into_target(jobs, rows, order)
        except QueryFailed as error:
            raise refused(order, error) from error
    return rows.count


def existing_table(jobs: Jobs, target: Table) -> bigquery.Table | None:
    with jobs.told():
        try:
            return jobs.client.get_table(f"{full_dataset(jobs, target)}.{target.name}")
        except exceptions.NotFound:
            return None


def full_dataset(jobs: Jobs, target: Table) -> str:
    return target.schema if "." in target.schema else f"{jobs.client.project}.{target.schema}"


def check_target(order: Order, existing: bigquery.Table | None) -> None:
    if existing is not None and order.if_exists is IfExists.FAIL:
        raise TargetExists(f"{order.target} exists already, and the export says if_exists='fail'")


def refused(order: Order, error: QueryFailed) -> ExportRefused:
    """Say which table could not be written."""
    if order.if_exists is IfExists.FAIL and isinstance(error.__cause__, exceptions.Conflict):
        return TargetExists(f"{order.target} exists already, and the export says if_exists='fail'")
    made = ExportRefused(f"cannot write to {order.target}: {error}")
    made.statement, made.offset = error.statement, error.offset
    return made


def spooled(data: Any, order: Order, existing: bigquery.Table | None, path: Path, *, index: bool) -> Rows:
    """Write the rows of a frame to a file, in the columns that the table has or is to have."""
    table = None if is_streamed(data) else to_arrow(data, index=index)
    reader = to_reader(data, index=index) if table is None else table.to_reader()
    names = column_names(reader.schema.names, order.column_names)
    fields = [field_of(name, field.type) for name, field in zip(names, reader.schema, strict=True)]
    columns = [
        _described(field, reader.schema.field(place).type, None if table is None else table.column(place))
        for place, field in enumerate(fields)
    ]
    check_keys(order.target, order.policy, columns)
    if existing is not None and order.if_exists in (IfExists.APPEND, IfExists.MERGE):
        fields = _as_there(fields, columns, order, existing)
    try:
        return Rows(path, fields, write_parquet(reader, fields, path))
    except ExportRefused as error:
        raise ExportRefused(f"cannot write to {order.target}: {error}") from error


def _described(field: SchemaField, type: pa.DataType, column: pa.ChunkedArray | None) -> FrameColumn:
    is_empty = pa.types.is_null(type) if column is None else column.null_count == len(column)
    example = "streamed" if column is None else None
    return FrameColumn(
        field.name,
        str(type),
        None if is_empty else kind_of(field),
        lambda: example or example_of(column),
    )


def _as_there(
    fields: Sequence[SchemaField], columns: Sequence[FrameColumn], order: Order, existing: bigquery.Table
) -> list[SchemaField]:
    """Return the frame's columns with the types of the table's. ExportRefused when they do not fit."""
    there = {field.name: field for field in existing.schema}
    known = [column for column in columns if column.name in there]
    new = [] if _ADDITION in order.schema_update_options else columns
    table = [
        TableColumn(field.name, field.field_type, kind_of(field), field.default_value_expression is not None)
        for field in existing.schema
    ]
    check_columns(order.target, new or known, table)
    return [there.get(field.name, field) for field in fields]


def _load_into_target(jobs: Jobs, rows: Rows, order: Order) -> None:
    config = _load_config(jobs, rows.fields, rows.count)
    order.prepare(config)
    jobs.crash("effect.before_commit")
    jobs.run(WRITE, lambda name: _load(jobs, rows, order.target, config, name))
    jobs.crash("effect.after_commit")


def _load_config(jobs: Jobs, fields: Sequence[SchemaField], rows: int) -> bigquery.LoadJobConfig:
    lists = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]
    lists.enable_list_inference = True
    return bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        schema=list(fields),
        parquet_options=lists,
        column_name_character_map="V2",  # names are as they are, and not cleaned in silence
        labels=jobs.labels(rows),
    )


def _load(jobs: Jobs, rows: Rows, target: Table, config: bigquery.LoadJobConfig, name: str) -> Any:
    with rows.path.open("rb") as file:
        return jobs.client.load_table_from_file(
            file,
            f"{full_dataset(jobs, target)}.{target.name}",
            size=rows.path.stat().st_size,
            job_id=name,
            location=jobs.location,
            job_config=config,
        )


def _write_from_aside(jobs: Jobs, rows: Rows, order: Order, existing: bigquery.Table | None) -> None:
    aside = table_aside(jobs, order.target)
    load_aside(jobs, rows, aside)
    jobs.crash("effect.staged")
    if order.if_exists is IfExists.MERGE:
        refuse_double_keys(jobs, aside, order)
    selected = ", ".join(_parsed(field) for field in rows.fields)
    source = f"SELECT {selected} FROM {aside.sql}"
    write_rows_of(jobs, source, [field.name for field in rows.fields], order, existing, rows.count)


@contextmanager
def _aside_removed(jobs: Jobs, target: Table) -> Iterator[None]:
    """Remove the table aside in the end; what is wrong counts for more than that it could not be removed."""
    try:
        yield
    except ConnectorError:
        with suppress(ConnectorError):
            remove_aside(jobs, target)
        raise
    remove_aside(jobs, target)


def table_aside(jobs: Jobs, target: Table) -> Table:
    """Return the table, in the target's dataset, that holds the rows of this effect for a while."""
    return Table(target.schema, f"millrace_stage_{jobs.token}")


def remove_aside(jobs: Jobs, target: Table) -> None:
    aside = table_aside(jobs, target)
    with jobs.told():
        jobs.client.delete_table(f"{full_dataset(jobs, aside)}.{aside.name}", not_found_ok=True)


def load_aside(jobs: Jobs, rows: Rows, aside: Table, step: str = STAGE) -> None:
    """Fill a table aside, unless an earlier attempt did and the table is still there."""
    if jobs.finished(step) is not None:
        if existing_table(jobs, aside) is not None:
            return
        step = f"{step}_of_{jobs.attempt}"
    make_aside(jobs, aside, [_as_text(field) for field in rows.fields])
    config = _load_config(jobs, [_as_text(field) for field in rows.fields], rows.count)
    config.write_disposition = bigquery.WriteDisposition.WRITE_TRUNCATE
    jobs.run(step, lambda name: _load(jobs, rows, aside, config, name))


def make_aside(jobs: Jobs, aside: Table, fields: Sequence[SchemaField]) -> None:
    """Make a table that BigQuery removes by itself if we do not."""
    table = bigquery.Table(f"{full_dataset(jobs, aside)}.{aside.name}", schema=list(fields))
    table.expires = datetime.now(UTC) + _KEPT_ASIDE
    with jobs.told():
        jobs.client.create_table(table, exists_ok=True)


def _as_text(field: SchemaField) -> SchemaField:
    return SchemaField(field.name, "STRING") if is_json(field) else field


def _parsed(field: SchemaField) -> str:
    name = quoted(field.name)
    return f"PARSE_JSON({name}) AS {name}" if is_json(field) else name


def write_rows_of(
    jobs: Jobs,
    source: str,
    names: Sequence[str],
    order: Order,
    existing: bigquery.Table | None,
    count: int | None = None,
) -> bigquery.QueryJob:
    """Write the rows of a query into the target, by one job."""
    config = query_config(jobs)
    if order.if_exists is IfExists.MERGE and existing is not None:
        query = _merge(source, names, order)
    else:
        query = source
        config.destination = f"{full_dataset(jobs, order.target)}.{order.target.name}"
        order.prepare(config)
    if count is not None:
        config.labels = jobs.labels(count)
    jobs.crash("effect.before_commit")
    job = run_query(jobs, WRITE, query, config, order.max_bytes_billed)
    jobs.crash("effect.after_commit")
    return job


def _merge(source: str, names: Sequence[str], order: Order) -> str:
    keys = order.policy.keys
    same = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in keys)
    changes = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in names if name not in keys)
    update = ""
    if order.policy.on_conflict is OnConflict.UPDATE and changes:
        update = f"WHEN MATCHED THEN UPDATE SET {changes} "
    return (
        f"MERGE {order.target.sql} AS t USING ({source}) AS s ON {same} {update}"
        f"WHEN NOT MATCHED THEN INSERT ({quoted_list(names)}) VALUES ({quoted_list(names)})"
    )


def refuse_double_keys(jobs: Jobs, aside: Table, order: Order) -> None:
    """Raise when a key is there twice, or lacks a part."""
    keys = order.policy.keys
    listed = quoted_list(keys)
    lacks = " OR ".join(f"{quoted(key)} IS NULL" for key in keys)
    query = (
        f"SELECT {listed}, COUNT(*) FROM {aside.sql} GROUP BY {listed} HAVING COUNT(*) > 1 OR {lacks} LIMIT 1"
    )
    job = run_query(jobs, f"keys_of_{jobs.attempt}", query, query_config(jobs), order.max_bytes_billed)
    found = [tuple(row.values()) for row in job.result()]
    if found:
        raise double_key(order.target, keys, found[0])

"""Results of queries as Arrow, by the Storage Read API where its library is installed, else by REST."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import util
from typing import Any

import pyarrow as pa
from google.cloud import bigquery

from pipelines.io.bigquery.jobs import Jobs
from pipelines.io.bigquery.types import arrow_schema, is_json
from pipelines.io.frames import give

_STORAGE = "google.cloud.bigquery_storage"


def rows_of_query(jobs: Jobs, job: bigquery.QueryJob, frame: Any) -> Any:
    """Return all rows of a finished query as the kind of frame asked for."""
    with jobs.told():
        rows = job.result()
        fields = list(rows.schema or ())
        if not fields:
            return give(pa.table({}), frame)
        table = rows.to_arrow(create_bqstorage_client=_has_storage_api(jobs))
    if frame != "pandas":
        return give(_with_json(table, fields), frame)
    objects = {
        place: _python_values(table.column(place), field)
        for place, field in enumerate(fields)
        if is_json(field) or pa.types.is_nested(table.column(place).type)
    }
    return give(table, frame, objects)


def batches_of_query(jobs: Jobs, job: bigquery.QueryJob) -> pa.RecordBatchReader:
    """Return the rows of a finished query in batches, a page of the answer at a time."""
    with jobs.told():
        rows = job.result()
    fields = list(rows.schema or ())
    schema = _with_json_types(arrow_schema(fields), fields)

    def batches() -> Iterator[pa.RecordBatch]:
        with jobs.told():
            for batch in rows.to_arrow_iterable(bqstorage_client=_storage_client(jobs)):
                yield from _with_json(pa.Table.from_batches([batch]), fields).cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _has_storage_api(jobs: Jobs) -> bool:
    return not jobs.settings.google.is_emulated and util.find_spec(_STORAGE) is not None


def _storage_client(jobs: Jobs) -> Any | None:
    if not _has_storage_api(jobs):
        return None
    return jobs.client._ensure_bqstorage_client()


def _python_values(column: pa.ChunkedArray, field: bigquery.SchemaField) -> Sequence[Any]:
    values: list[Any] = column.to_pylist()
    if not is_json(field):
        return values
    return [None if text is None else json.loads(text) for text in values]


def _with_json(table: pa.Table, fields: Sequence[bigquery.SchemaField]) -> pa.Table:
    """Give columns of JSON Arrow's own type for it."""
    for place, field in enumerate(fields):
        if is_json(field):
            chunks = [
                pa.ExtensionArray.from_storage(pa.json_(), chunk.cast(pa.string()))
                for chunk in table.column(place).chunks
            ]
            table = table.set_column(place, field.name, pa.chunked_array(chunks, pa.json_()))
    return table


def _with_json_types(schema: pa.Schema, fields: Sequence[bigquery.SchemaField]) -> pa.Schema:
    for place, field in enumerate(fields):
        if is_json(field):
            schema = schema.set(place, pa.field(field.name, pa.json_()))
    return schema

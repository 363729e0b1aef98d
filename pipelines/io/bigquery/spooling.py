"""Rows on their way to a load job: in one Parquet file, written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud.bigquery import SchemaField

from pipelines.io.bigquery.types import arrow_schema, fitted

_ROW_GROUP = 32 * 2**20  # bytes in memory


def write_parquet(reader: pa.RecordBatchReader, fields: Sequence[SchemaField], path: Path) -> int:
    """Write all batches to a file, in the columns of a table, and return their rows."""
    rows = 0
    with pq.ParquetWriter(path, arrow_schema(fields), compression="zstd") as writer:
        for table in _grouped(reader, fields):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _grouped(reader: pa.RecordBatchReader, fields: Sequence[SchemaField]) -> Iterator[pa.Table]:
    """Yield batches together, as many as make a good row group."""
    group: list[pa.RecordBatch] = []
    for batch in reader:
        group.append(fitted(batch, fields))
        if sum(each.nbytes for each in group) >= _ROW_GROUP:
            yield pa.Table.from_batches(group)
            group = []
    if group:
        yield pa.Table.from_batches(group)

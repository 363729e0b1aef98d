"""Datasets: folders of Parquet files, partitioned as Hive does it (`date=2024-01-31/part-0.parquet`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.io.columns import arrow_kind, example_of, fits, whole_numbers
from pipelines.io.effects import Write
from pipelines.io.errors import ExportRefused
from pipelines.io.files.appearing import mark, put_folder, sync, written_aside
from pipelines.io.files.batches import chunks, scanning
from pipelines.io.files.formats import as_table, table_to_frame
from pipelines.io.frames import FrameKind, give, is_streamed, to_reader

# The schema of all files and of the partitions, which their folders' names alone do not tell.
SCHEMA_FILE = "_common_metadata"
_PARTITION_KEY = b"millrace.partition_cols"
_MOST_PARTITIONS = 100_000

# Of streamed data: what lies in memory, and what the partitions of one file of theirs come from.
_ROWS_PER_FILE = 1_048_576
_FILE_BYTES = 48 << 20

Rows: TypeAlias = pa.Table | pa.RecordBatchReader


def replace_dataset(
    data: Any,
    folder: Path,
    partition_cols: Sequence[str],
    *,
    write: Write,
    options: Mapping[str, Any],
) -> int:
    """Write a dataset aside and put it in the place of the folder."""
    _refuse_to_remove_others(folder)
    rows = rows_of(data)
    with written_aside(folder, write.token) as aside:
        written = write_parts(rows, aside, partition_cols, "part-{i}.parquet", options)
        mark(aside, write.token, written)
        put_folder(aside, folder, write.crash)
    return written


def _refuse_to_remove_others(folder: Path) -> None:
    """Raise when the folder holds files that no dataset has: they would go with the old one."""
    for path in folder.rglob("*"):
        if path.is_file() and not _is_of_a_dataset(path.relative_to(folder)):
            raise ExportRefused(
                f"cannot replace the folder {folder} by a dataset: it holds {path.relative_to(folder)}, "
                f"which would be lost. Export to a folder of the dataset's own"
            )


def _is_of_a_dataset(file: Path) -> bool:
    """Tell files such as `day=2024-01-31/x.parquet`, `part-0.parquet`, `_common_metadata` from all others."""
    if not all("=" in part for part in file.parent.parts):
        return False
    is_hidden = file.name.startswith(("_", "."))
    is_partition = bool(file.parent.parts) or file.match("part-*.parquet")
    return is_hidden or (is_partition and file.suffix == ".parquet")


def append_to_dataset(
    data: Any,
    folder: Path,
    partition_cols: Sequence[str],
    *,
    write: Write,
    options: Mapping[str, Any],
) -> int:
    """Add files to a dataset. Their names come from the token: written again, they replace themselves."""
    rows = rows_like(rows_of(data), stored_schema(folder), partition_cols, folder)
    with written_aside(folder, write.token) as aside:
        written = write_parts(rows, aside, partition_cols, f"part-{write.token}-{{i}}.parquet", options)
        new = sorted(path.relative_to(aside) for path in aside.rglob("*.parquet") if path.is_file())
        write.crash("effect.before_commit")
        _move([*new, Path(SCHEMA_FILE)], aside, folder, write)
        write.crash("effect.after_commit")
    _remove_stale(folder, write.token, set(new))
    return written


def _move(names: Sequence[Path], aside: Path, folder: Path, write: Write) -> None:
    """Put files in their places, or none of them when one cannot be put there."""
    placed: list[Path] = []
    try:
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            sync(aside / name)
            (aside / name).replace(target)
            placed.append(target)
            sync(target.parent)
            write.crash("effect.part")
    except BaseException:
        for path in placed:
            if path.name != SCHEMA_FILE:
                path.unlink(missing_ok=True)
        raise


def _remove_stale(folder: Path, token: str, new: set[Path]) -> None:
    """Remove files that an earlier, different try of the same write has left."""
    for path in folder.rglob(f"part-{token}-*.parquet"):
        if path.relative_to(folder) not in new:
            path.unlink()


def rows_like(rows: Rows, there: pa.Schema | None, partition_cols: Sequence[str], place: str | Path) -> Rows:
    """Return rows in the types of the dataset that they are to join; ExportRefused when they do not fit."""
    if there is None:
        return rows
    if set(there.names) != set(rows.schema.names):
        difference = ", ".join(sorted(set(there.names) ^ set(rows.schema.names)))
        raise ExportRefused(f"cannot append to {place}: its columns and the frame's differ in {difference}")
    if partition_cols_of(there) != list(partition_cols):
        raise ExportRefused(f"cannot append to {place}: it is partitioned by {partition_cols_of(there)}")
    if isinstance(rows, pa.Table):
        return _like(rows, there, place)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            yield from _like(pa.Table.from_batches([batch]), there, place).to_batches()

    return pa.RecordBatchReader.from_batches(_like(rows.schema.empty_table(), there, place).schema, batches())


def _like(table: pa.Table, there: pa.Schema, place: str | Path) -> pa.Table:
    table = table.select(there.names)
    table = whole_numbers(table, [arrow_kind(field.name, field.type) for field in there], place)
    columns = [_column_like(field, column, place) for field, column in zip(there, table.columns, strict=True)]
    schema = pa.schema([(name, column.type) for name, column in zip(there.names, columns, strict=True)])
    if b"pandas" in (there.metadata or {}):
        schema = schema.with_metadata({b"pandas": there.metadata[b"pandas"]})
    return pa.table(columns, schema=schema)


def _column_like(field: pa.Field, column: pa.ChunkedArray, place: str | Path) -> pa.ChunkedArray | pa.Array:
    """Return a column in the type that it has there; a dataset of only nulls so far has none."""
    given, wanted = column.type, field.type
    if given == wanted or pa.types.is_null(wanted):
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), wanted)
    if pa.types.is_dictionary(wanted):
        plain = field.with_type(wanted.value_type)
        return pa.chunked_array([_column_like(plain, column, place)]).dictionary_encode()
    if pa.types.is_dictionary(given):
        column = column.cast(given.value_type)
    if fits(arrow_kind(field.name, given), str(arrow_kind(field.name, wanted))):
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return column.cast(wanted)
    raise ExportRefused(
        f"cannot append to {place}: column {field.name!r} is {wanted} there, and {given} in the frame "
        f"({example_of(column)}). Convert the column, or replace the dataset"
    )


def rows_of(data: Any) -> Rows:
    """Return what a block exports as a table, or as batches when it is streamed."""
    return to_reader(data) if is_streamed(data) else as_table(data)


def write_parts(
    rows: Rows, folder: Path, partition_cols: Sequence[str], basename: str, options: Mapping[str, Any]
) -> int:
    """Write files of these names (`{i}` in it is their number) and the file of the schema into a folder.

    Batches are gathered to a bounded size, of which each makes files of its own. Returns the rows.
    """
    missing = [name for name in partition_cols if name not in rows.schema.names]
    if missing:
        raise ExportRefused(f"cannot partition by {', '.join(missing)}: the frame has no such column")
    if isinstance(rows, pa.Table):
        schema, written = _write_table(rows, folder, partition_cols, basename, options), rows.num_rows
    else:
        schema, written = _write_batches(rows, folder, partition_cols, basename, options)
    folder.mkdir(exist_ok=True)
    note = {**(schema.metadata or {}), _PARTITION_KEY: json.dumps(list(partition_cols)).encode()}
    pq.write_metadata(schema.with_metadata(note), folder / SCHEMA_FILE)
    return int(written)


def _write_batches(
    reader: pa.RecordBatchReader,
    folder: Path,
    partition_cols: Sequence[str],
    basename: str,
    options: Mapping[str, Any],
) -> tuple[pa.Schema, int]:
    written = 0
    schema = _plain_partitions(reader.schema.empty_table(), partition_cols).schema
    for number, table in enumerate(chunks(reader, _ROWS_PER_FILE, _FILE_BYTES)):
        name = basename.replace("{i}", f"{number}-{{i}}")
        _write_table(table, folder, partition_cols, name, options)
        written += table.num_rows
    if not written:
        _write_table(schema.empty_table(), folder, partition_cols, basename, options)
    return schema, written


def _write_table(
    table: pa.Table, folder: Path, partition_cols: Sequence[str], basename: str, options: Mapping[str, Any]
) -> pa.Schema:
    table = _plain_partitions(table, partition_cols)
    ds.write_dataset(
        table,
        folder,
        format="parquet",
        partitioning=_partitioning(table.schema, partition_cols),
        basename_template=basename,
        existing_data_behavior="overwrite_or_ignore",  # the folder is ours: other chunks have been here
        max_partitions=_MOST_PARTITIONS,
        max_open_files=200,
        file_options=ds.ParquetFileFormat().make_write_options(**options),
    )
    return table.schema


def _plain_partitions(table: pa.Table, partition_cols: Sequence[str]) -> pa.Table:
    """Decode categories that name partitions: a folder's name is the value itself."""
    for name in partition_cols:
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            plain = column.cast(column.type.value_type)
            table = table.set_column(table.column_names.index(name), name, plain)
    return table


def _partitioning(schema: pa.Schema, partition_cols: Sequence[str]) -> ds.Partitioning:
    return ds.partitioning(pa.schema([schema.field(name) for name in partition_cols]), flavor="hive")


def read_dataset(folder: Path, options: Mapping[str, Any], frame: FrameKind = "pandas") -> Any:
    """Return the rows of all files, with the partitions as columns of the type they had."""
    table = dataset_of(folder).to_table(**scanning(options))
    return table_to_frame(table) if frame == "pandas" else give(table, frame)


def dataset_of(folder: Path) -> ds.Dataset:
    """Return a folder's files as one dataset."""
    schema = stored_schema(folder)
    if schema is None:
        return ds.dataset(folder, format="parquet", partitioning="hive")
    partitioning = _partitioning(schema, partition_cols_of(schema))
    return ds.dataset(folder, schema=schema, format="parquet", partitioning=partitioning)


def stored_schema(folder: Path) -> pa.Schema | None:
    path = folder / SCHEMA_FILE
    return pq.read_schema(path) if path.exists() else None


def partition_cols_of(schema: pa.Schema) -> list[str]:
    names: list[str] = json.loads((schema.metadata or {}).get(_PARTITION_KEY, b"[]"))
    return names

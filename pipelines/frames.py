"""Frames as Arrow IPC files and back, dtypes, labels and index as they were.

Arrow wants unique text as names, and pandas allows anything; so labels that are not, and indexes that are no
plain range, are stored beside the columns and put back on reading.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines import plain
from pipelines.errors import NotStorableError

# Frames are converted and written in pieces that stay in the processor's cache: columns that lie scattered in
# memory (a frame made of one numpy array) would be fetched from there many times over otherwise.
ROWS_PER_BATCH = 32_768
FACTS = b"millrace"
INDEX_PREFIX = "__index_"

# Object columns whose values Arrow holds without loss, by pandas' word for what is in them.
ARROW_OBJECTS = frozenset({"string", "bytes", "date", "time", "decimal", "empty"})

Piece = Callable[[int, int], Any]  # rows from, rows to -> pa.Array or pa.ChunkedArray


def write_frame(frame: pd.DataFrame, sink: Any) -> None:
    """Write a frame; NotStorableError, before anything is written, when it cannot be read back as it is."""
    flat, facts = _flatten(frame)
    try:
        schema, pieces = _columns(flat, facts)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise NotStorableError(f"Arrow cannot hold this frame: {error}") from error
    metadata = {**(schema.metadata or {}), FACTS: json.dumps(facts).encode()}
    schema = schema.with_metadata(metadata)
    with pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(flat), ROWS_PER_BATCH):
            stop = min(start + ROWS_PER_BATCH, len(flat))
            writer.write_table(pa.table([piece(start, stop) for piece in pieces], schema=schema))


def read_frame(source: Any) -> pd.DataFrame:
    """Read what `write_frame` wrote."""
    with pa.ipc.open_file(source) as reader:
        table = reader.read_all()
    facts = json.loads(table.schema.metadata[FACTS])
    objects: dict[str, str] = facts["objects"]
    arrows: list[str] = facts.get("arrow", [])
    frame = table.drop_columns([*objects, *arrows]).to_pandas()
    for name in arrows:
        frame[name] = pd.Series(pd.arrays.ArrowExtensionArray(table[name]), index=frame.index)
    for name, form in objects.items():
        frame[name] = pd.Series(_read_objects(table[name], form), index=frame.index, dtype=object)
    frame = frame[table.column_names]
    for name, dtype in facts["dtypes"].items():
        if str(frame[name].dtype) != dtype:
            frame[name] = frame[name].astype(dtype)
    return _restore(frame, facts, table.num_rows)


def _flatten(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the frame with unique text as labels and no index, and the facts that undo that."""
    facts: dict[str, Any] = {"attrs": plain.encode(dict(frame.attrs)), "objects": {}, "columns": None}
    flat = frame.copy(deep=False)
    flat.attrs = {}
    if not _has_plain_labels(frame.columns):
        facts["columns"] = _labels_as_text(frame.columns)
        flat.columns = pd.Index([f"c{position}" for position in range(frame.shape[1])])
    index = frame.index
    if type(index) is pd.RangeIndex:
        facts["index"] = {"range": [index.start, index.stop, index.step], "name": plain.encode(index.name)}
        return flat.reset_index(drop=True), facts
    levels = index.to_frame(index=False)
    levels.columns = pd.Index([f"{INDEX_PREFIX}{level}" for level in range(index.nlevels)])
    facts["index"] = {"levels": list(levels.columns), "names": plain.encode(list(index.names))}
    return pd.concat([flat.reset_index(drop=True), levels], axis=1), facts


def _has_plain_labels(labels: pd.Index[Any]) -> bool:
    return (
        type(labels) is pd.Index
        and labels.dtype == "str"
        and labels.name is None
        and labels.is_unique
        and not any(pd.isna(label) or label.startswith(INDEX_PREFIX) for label in labels)
    )


def _labels_as_text(labels: pd.Index[Any]) -> dict[str, Any]:
    frame = labels.to_frame(index=False)
    frame.columns = pd.Index([f"level{level}" for level in range(labels.nlevels)])
    sink = io.BytesIO()
    write_frame(frame, sink)
    names = plain.encode(list(labels.names))
    return {"labels": base64.b64encode(sink.getvalue()).decode(), "names": names}


def _restore(flat: pd.DataFrame, facts: dict[str, Any], rows: int) -> pd.DataFrame:
    index = facts["index"]
    if "range" in index:
        flat.index = pd.RangeIndex(*index["range"]).rename(plain.decode(index["name"]))
    else:
        levels = flat[index["levels"]]
        flat = flat.drop(columns=index["levels"])
        flat.index = _index_of(levels, plain.decode(index["names"]))
    if facts["columns"] is not None:
        labels = read_frame(io.BytesIO(base64.b64decode(facts["columns"]["labels"])))
        flat.columns = _index_of(labels, plain.decode(facts["columns"]["names"]))
    flat.attrs = plain.decode(facts["attrs"])
    return flat


def _index_of(levels: pd.DataFrame, names: list[Any]) -> pd.Index[Any]:
    if levels.shape[1] > 1:
        return pd.MultiIndex.from_frame(levels, names=names)
    labels: pd.Index[Any] = pd.Index(levels.iloc[:, 0])
    return labels.rename(names[0])


def _columns(flat: pd.DataFrame, facts: dict[str, Any]) -> tuple[pa.Schema, list[Piece]]:
    fields, pieces = [], []
    for name in flat.columns:
        column = flat[name]
        kind, piece = _object_column(column, facts) if column.dtype == object else _typed_column(column)
        fields.append(pa.field(name, kind))
        pieces.append(piece)
    # Columns of Arrow's own types are not described to pandas: it cannot read the names of nested ones.
    facts["arrow"] = [name for name, dtype in flat.dtypes.items() if isinstance(dtype, pd.ArrowDtype)]
    apart = {*facts["objects"], *facts["arrow"]}
    dtypes = {name: dtype for name, dtype in flat.dtypes.items() if name not in apart}
    facts["dtypes"] = {
        name: str(dtype) for name, dtype in dtypes.items() if not isinstance(dtype, pd.CategoricalDtype)
    }
    special = [name for name, dtype in dtypes.items() if not _is_arrows_own(dtype)]
    return pa.schema(fields, metadata=_facts_of_pandas(flat[special]) if special else None), pieces


def _is_arrows_own(dtype: Any) -> bool:
    """Say whether Arrow's own type is enough to find the dtype again."""
    if isinstance(dtype, pd.StringDtype):
        return dtype.na_value is np.nan
    return isinstance(dtype, (np.dtype, pd.DatetimeTZDtype, pd.CategoricalDtype))


def _facts_of_pandas(special: pd.DataFrame) -> Any:
    # What pandas needs to find its other types again lies in metadata, which an empty frame has as well.
    return pa.Schema.from_pandas(special.iloc[:0], preserve_index=False).metadata


def _typed_column(column: pd.Series[Any]) -> tuple[pa.DataType, Piece]:
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        values = column.to_numpy()
        # Not by from_pandas: that would search for NaN, and make a null of it.
        return pa.from_numpy_dtype(dtype), lambda start, stop: pa.array(
            np.ascontiguousarray(values[start:stop])
        )
    if isinstance(dtype, pd.SparseDtype):
        raise NotStorableError(f"column {column.name!r} is sparse")
    array = pa.Array.from_pandas(column)
    return array.type, lambda start, stop: array.slice(start, stop - start)


def _object_column(column: pd.Series[Any], facts: dict[str, Any]) -> tuple[pa.DataType, Piece]:
    values = column.to_numpy()
    array, form = None, "arrow"
    if pd.api.types.infer_dtype(values, skipna=True) in ARROW_OBJECTS and _has_one_kind_of_null(values):
        try:
            array = pa.array(values, from_pandas=False)
        except pa.ArrowException:
            array = None  # a decimal that is not a number, for one
    if array is None:
        array, form = _objects_as_json(column), "json"
    facts["objects"][column.name] = form
    return array.type, lambda start, stop: array.slice(start, stop - start)


def _has_one_kind_of_null(values: Any) -> bool:
    return all(value is None for value in values[pd.isna(values)])


def _objects_as_json(column: pd.Series[Any]) -> pa.Array:
    try:
        return pa.array([json.dumps(plain.encode(value)) for value in column.array], pa.large_string())
    except NotStorableError as error:
        raise NotStorableError(f"column {column.name!r}: {error}") from error


def _read_objects(column: pa.ChunkedArray, form: str) -> Any:
    values = column.to_pylist()
    if form == "json":
        values = [plain.decode(json.loads(value)) for value in values]
    objects = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        objects[row] = value
    return objects

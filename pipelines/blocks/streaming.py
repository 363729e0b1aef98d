"""Blocks and data larger than memory: outputs are spooled as they come, functions called for each batch."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError
from pipelines.handover import own_copies
from pipelines.io.frames import FrameKind, give, is_list_of_mappings, to_arrow
from pipelines.io.polars_frames import is_lazy
from pipelines.model import BlockType
from pipelines.spooling import BATCH_BYTES
from pipelines.streams import Stream
from pipelines.unifying import TypesDiffer

ROWS_AT_ONCE = 10_000  # of rows that come one by one
TEXT_BYTES = 32  # what a value of no fixed width is taken for, when frames are cut

_FORMS: Mapping[Any, FrameKind] = {True: "pandas", "pandas": "pandas", "arrow": "arrow", "polars": "polars"}
_STREAMING = (BlockType.TRANSFORMER, BlockType.DATA_EXPORTER, BlockType.CUSTOM)


def spooled(context: BlockContext, outputs: Sequence[Any], where: str) -> tuple[Any, ...]:
    """Return the outputs of a block, each of which can be read any number of times.

    Frames that come one by one are written to disk as they come, and become a Stream. BlockCodeError for
    what gives its values only once and is no frames. `where` begins its sentence.
    """
    return tuple(_lasting(context, output, where) for output in outputs)


def _lasting(context: BlockContext, output: Any, where: str) -> Any:
    if isinstance(output, pa.RecordBatchReader):
        return _stream_of(context, chain([output.schema.empty_table()], output), where)
    if isinstance(output, Iterator):
        first = next(output, None)
        if first is not None and not _is_row_or_frame(first):
            raise _one_time(context, output, where, "return a list or a DataFrame of its values")
        return _stream_of(context, _frames(context, chain([first], output), where), where)
    if isinstance(output, AsyncIterator):
        raise _one_time(
            context, output, where, "collect its frames in the block, or yield them without async"
        )
    if inspect.isawaitable(output):
        raise _one_time(context, output, where, "await it in the block, for instance with asyncio.run()")
    if is_lazy(output):
        # Computed here, once: an error in it is this block's, and what it reads may be gone later.
        return output.collect(engine="streaming").lazy()
    return output


def _one_time(context: BlockContext, output: Any, where: str, remedy: str) -> BlockCodeError:
    return BlockCodeError(
        f"{where}: block {context.block.name!r} returned a {type(output).__name__}, which gives its values "
        f"only once; {remedy}"
    )


def _stream_of(context: BlockContext, frames: Iterable[Any], where: str) -> Stream:
    if context.spools is None:
        raise BlockCodeError(f"{where}: outputs larger than memory can be stored only within a run")
    try:
        return context.spools.write(frames, context.logger.warning)
    except TypesDiffer as error:
        raise BlockCodeError(
            f"{where}: block {context.block.name!r} gave frames that do not go together: {error}"
        ) from error


def _frames(context: BlockContext, items: Iterable[Any], where: str) -> Iterator[Any]:
    """Yield frames; rows that come one by one are gathered, streams among them are read."""
    rows: list[Mapping[str, Any]] = []
    for number, item in enumerate(items, 1):
        if item is None:  # an empty iterator, or a step without rows
            continue
        is_row = _is_row(item)
        if rows and (not is_row or len(rows) == ROWS_AT_ONCE):
            yield rows
            rows = []
        if is_row:
            rows.append(item)
        elif isinstance(item, Stream):
            yield from item
        elif _is_frame(item):
            yield item
        else:
            raise BlockCodeError(
                f"{where}: block {context.block.name!r} gave frames, but a {type(item).__name__} as "
                f"number {number}; give a frame each time"
            )
    if rows:
        yield rows


def _is_row_or_frame(item: Any) -> bool:
    return _is_row(item) or _is_frame(item)


def _is_row(item: Any) -> bool:
    """Say whether a dictionary is one row, and not a frame's columns: then all of its values are lists."""
    return isinstance(item, Mapping) and not all(pd.api.types.is_list_like(value) for value in item.values())


def _is_frame(item: Any) -> bool:
    if isinstance(item, (pd.DataFrame, pa.Table, pa.RecordBatch, Mapping)) or is_list_of_mappings(item):
        return True
    return hasattr(item, "__arrow_c_stream__") and not isinstance(item, pa.RecordBatchReader | pd.Series)


def stream_form(context: BlockContext, options: Mapping[str, Any], where: str) -> FrameKind | None:
    """Return what the decorator has a function called with for each batch; None: it is called once."""
    wanted = options.get("stream")
    if not wanted:
        return None
    form = _FORMS.get(wanted) if isinstance(wanted, (bool, str)) else None
    if form is None:
        raise BlockCodeError(
            f"{where}: stream={wanted!r} is not known; use True (for pandas frames), 'arrow' or 'polars'"
        )
    if context.block.type not in _STREAMING or not context.upstream:
        raise BlockCodeError(
            f"{where}: stream=True calls a function for each batch of what its first upstream block gives: "
            f"it is for transformers, exporters and custom blocks with an upstream block. A loader streams "
            f"by yielding frames"
        )
    return form


def called_per_batch(
    context: BlockContext,
    function: Callable[..., Any],
    form: FrameKind,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any],
    where: str,
) -> Iterator[Any] | None:
    """Return what the function gives for each batch of the first input, while it is called; None for nothing.

    The other inputs are whole, and the function's own at each call. A batch of which it returns None is
    dropped.
    """
    batches = _batches(context, inputs[0], form, where)
    results = _results(context, function, batches, inputs[1:], keywords, where)
    context.effects.in_batches = True
    first = next(results, None)
    if first is not None:
        return chain([first], results)
    if context.block.type is not BlockType.TRANSFORMER:
        return None
    context.logger.warning(
        "%s: the function returned nothing for every batch, so block %r has no rows; is a `return` missing?",
        where,
        context.block.name,
    )
    return iter(())


def _results(
    context: BlockContext,
    function: Callable[..., Any],
    batches: Iterator[Any],
    others: Sequence[Any],
    keywords: Mapping[str, Any],
    where: str,
) -> Iterator[Any]:
    for number, batch in enumerate(batches, 1):
        given = {**keywords, "batch_number": number} if "batch_number" in keywords else keywords
        result = function(batch, *own_copies(others), **given)
        del batch
        for item in result if isinstance(result, Iterator) else (result,):
            if item is not None and not (_is_row_or_frame(item) or isinstance(item, Stream)):
                raise BlockCodeError(
                    f"{where}: block {context.block.name!r} is called for each batch, and returned a "
                    f"{type(item).__name__} for batch {number}; return a frame, or nothing to drop the batch"
                )
            if item is not None:
                yield item


def _batches(context: BlockContext, data: Any, form: FrameKind, where: str) -> Iterator[Any]:
    """Yield the batches of an input: those of a stream, or a frame cut into pieces; of a list, of each in it.

    They are the same at each attempt, so that what was written of them is not written again.
    """
    is_list = isinstance(data, list) and bool(data) and not _is_frame(data)  # such as children return
    parts = data if is_list else [data]
    wrong = [type(part).__name__ for part in parts if not (isinstance(part, Stream) or _is_frame(part))]
    if wrong:
        what = f"list with a {wrong[0]} in it" if is_list else wrong[0]
        raise BlockCodeError(
            f"{where}: stream=True needs frames, but the first upstream block, {context.upstream[0]!r}, "
            f"returned a {what}"
        )
    if form == "pandas":
        return chain.from_iterable(map(_pandas_batches, parts))
    return (give(table, form) for part in parts for table in _tables(part))


def _pandas_batches(data: Any) -> Iterator[pd.DataFrame]:
    if isinstance(data, Stream):
        return chain(data, () if len(data) else [data.to_pandas()])
    frame = data if isinstance(data, pd.DataFrame) else give(to_arrow(data), "pandas")
    widths = [getattr(dtype, "itemsize", TEXT_BYTES) for dtype in frame.dtypes]
    return (frame.iloc[rows] for rows in _cuts(len(frame), sum(widths)))


def _tables(data: Any) -> Iterator[pa.Table]:
    if isinstance(data, Stream):
        tables = (pa.Table.from_batches([batch]) for batch in data.batches())
        return chain(tables, () if len(data) else [data.schema.empty_table()])
    table = to_arrow(data)
    return (table.slice(rows.start, rows.stop - rows.start) for rows in _cuts(len(table), _width(table)))


def _width(table: pa.Table) -> int:
    return sum(_width_of(field.type) for field in table.schema)


def _width_of(kind: pa.DataType) -> int:
    try:
        return int(max(1, kind.bit_width // 8))
    except ValueError:  # it has no fixed one
        return TEXT_BYTES


def _cuts(rows: int, row_bytes: int) -> Iterator[slice]:
    """Cut by types and rows, which are the same at each attempt: the bytes that a frame takes are not."""
    step = max(1, BATCH_BYTES // max(1, row_bytes))
    starts = range(0, rows, step) if rows else [0]
    return (slice(start, min(start + step, rows)) for start in starts)

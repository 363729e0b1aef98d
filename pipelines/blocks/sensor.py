"""One look of a sensor block. A sensor that sees nothing yet is parked by the run: it never sleeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from pipelines.blocks.calling import call_with_what_fits, is_true
from pipelines.blocks.python import loaded
from pipelines.blocks.sql import run_sql
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, NotYet
from pipelines.parse_fields import duration_seconds

POLL_SECONDS = 60.0  # between two looks, where the configuration's `poll_interval` says nothing else


def look(context: BlockContext, inputs: Sequence[Any]) -> None:
    """Return when what the sensor waits for is there; raise NotYet when it is not.

    Whatever the sensor's code raises comes out as it is.
    """
    if _LOOKS[context.block.language](context, inputs):
        return
    seconds = duration_seconds(context.block.configuration.get("poll_interval", POLL_SECONDS))
    raise NotYet(
        f"sensor {context.block.name!r} does not see yet what it waits for; it looks every {seconds:g} s",
        seconds=seconds,
    )


def _look_by_python(context: BlockContext, inputs: Sequence[Any]) -> bool:
    with loaded(context, inputs) as collector:
        functions = collector.of("sensor")
        if not functions:
            raise BlockCodeError(
                f"{context.block.path}: block {context.block.name!r} is a sensor and needs a function "
                f"decorated with @sensor; it has none"
            )
        answer = call_with_what_fits(functions[0], inputs, context.keywords)
        return is_true(answer, functions[0], context.block.path)


def _look_by_sql(context: BlockContext, inputs: Sequence[Any]) -> bool:
    """A query is true when it gives a row; a single value has to be true itself, so that one can count."""
    block = context.block
    # A query that only looks: its rows go into no table.
    raw = dataclasses.replace(block, configuration={**block.configuration, "use_raw_sql": True})
    outputs = run_sql(dataclasses.replace(context, block=raw), inputs)
    if not outputs:
        raise BlockCodeError(f"{block.path}: sensor {block.name!r} gives no rows; end it with a SELECT")
    rows = outputs[0]
    if len(rows) == 1 and len(rows.columns) == 1:
        value = rows.iat[0, 0]
        return bool(not pd.isna(value) and value)
    return len(rows) > 0


_LOOKS: dict[str, Callable[[BlockContext, Sequence[Any]], bool]] = {
    "python": _look_by_python,
    "sql": _look_by_sql,
}

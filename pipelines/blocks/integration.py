"""How a data integration block executes: a source of dlt into a destination of dlt, and on from where it was.

dlt keeps its own state (cursors, schemas, packages on their way) in a working folder of the block, and in the
destination beside the data. The effect id is part of that state, so that a block that is tried again knows
whether its data is on its way, or there.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.blocks.integration_ends import destination_of, hinted, source_of
from pipelines.blocks.integration_settings import IntegrationSettings
from pipelines.blocks.python import run_python
from pipelines.blocks.tracebacks import describe, is_of_project
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, MillraceError

EFFECT_KEY = "millrace_effect"

_NO_DLT = "data integration blocks need dlt, which is not installed; install the extra `dlt`"

# dlt reports its use to its makers unless it is told not to.
_SILENCE = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_TELEMETRY_DISABLED": "true"}


class IntegrationFailed(MillraceError):
    """dlt could not load a source into its destination."""


def run_integration(context: BlockContext, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Load the block's source and return how many rows came into each table, as one dictionary.

    Raises IntegrationFailed with dlt's reason, BlockCodeError for what the block's YAML lacks.
    """
    settings = IntegrationSettings.of(context)
    os.environ.update(_SILENCE)
    dlt = _dlt()
    with _working_folder(context) as folder:
        pipeline = dlt.pipeline(
            pipeline_name=folder.name,
            pipelines_dir=str(folder.parent),
            destination=destination_of(context, dlt, settings),
            dataset_name=settings.dataset,
        )
        try:
            rows = _loaded(context, dlt, pipeline, lambda: _source(context, dlt, settings, inputs))
        except MillraceError:
            raise
        except Exception as error:
            if context.block.language == "python" and not isinstance(
                error, dlt.common.exceptions.DltException
            ):
                raise  # the block's own
            raise IntegrationFailed(_reason(error, context)) from error
    context.effects.wrote(sum(rows.values()))
    return (rows,)


def _dlt() -> Any:
    try:
        import dlt
        import dlt.common.exceptions
    except ImportError:
        raise BlockCodeError(_NO_DLT) from None
    return dlt


def _source(context: BlockContext, dlt: Any, settings: IntegrationSettings, inputs: Sequence[Any]) -> Any:
    if context.block.language == "yaml":
        return hinted(context, dlt, source_of(context, dlt, settings), settings)
    outputs = run_python(context, inputs)
    if len(outputs) == 1 and isinstance(outputs[0], dlt.sources.DltResource):
        outputs = (dlt.source(lambda: outputs[0], name=outputs[0].name)(),)
    if len(outputs) != 1 or not isinstance(outputs[0], dlt.sources.DltSource):
        raise BlockCodeError(f"{context.block.path}: return one source, or one resource, of dlt")
    return hinted(context, dlt, outputs[0], settings)


# --- the working folder -----------------------------------------------------------------------------------


@contextmanager
def _working_folder(context: BlockContext) -> Iterator[Path]:
    """Give the folder in which dlt keeps what it knows of this block, to one run at a time."""
    home = context.home or context.root / ".millrace"
    name = re.sub(r"\W+", "_", f"{context.pipeline.name}__{context.block.name}")
    folder = home / "dlt" / re.sub(r"\W+", "_", context.project) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            context.logger.info("another run loads by this block; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


# --- loading ----------------------------------------------------------------------------------------------


def _loaded(context: BlockContext, dlt: Any, pipeline: Any, make_source: Any) -> dict[str, int]:
    """Load what is on its way, then the source, unless an earlier attempt has; return rows by table."""
    effect = context.effects.next(f"dlt:{pipeline.pipeline_name}")
    rows: dict[str, int] = {}
    if pipeline.has_pending_data:
        context.logger.info("an earlier attempt left data on its way; it is loaded first")
        _add(rows, _taken(context, pipeline, pipeline.run()))
    elif pipeline.first_run:  # in this folder; the destination may know of earlier ones
        pipeline.sync_destination()
    if _effect_of(pipeline) == effect:
        context.logger.info("this block's data was extracted by an earlier attempt; not loaded again")
        return rows
    source = make_source()
    source.resources.add(_marker(dlt, effect))
    _add(rows, _taken(context, pipeline, pipeline.run(source)))
    return rows


def _marker(dlt: Any, effect: str) -> Any:
    """Return a resource without rows that makes the effect id a part of the state of this load."""

    def mark() -> Iterator[Any]:
        dlt.current.source_state()[EFFECT_KEY] = effect
        yield from ()

    return dlt.resource(mark, name=EFFECT_KEY, selected=True)


def _effect_of(pipeline: Any) -> str | None:
    sources = pipeline.state.get("sources", {})
    found = [state[EFFECT_KEY] for state in sources.values() if EFFECT_KEY in state]
    return found[-1] if found else None


def _taken(context: BlockContext, pipeline: Any, info: Any) -> dict[str, int]:
    """Log what a load has done, and return the rows of each table."""
    if info is None:
        return {}
    info.raise_on_failed_jobs()
    for package in info.load_packages:
        for table, change in (package.schema_update or {}).items():
            names = [name for name in change.get("columns", {}) if not name.startswith("_dlt")]
            if names and not table.startswith("_dlt"):
                context.logger.info("table %s has new columns: %s", table, ", ".join(names))
    rows = {table: count for table, count in _row_counts(pipeline).items() if not table.startswith("_dlt")}
    for table, count in rows.items():
        context.logger.info("table %s: %d rows loaded", table, count)
    if not rows:
        context.logger.info("nothing new")
    return rows


def _row_counts(pipeline: Any) -> Mapping[str, int]:
    trace = pipeline.last_trace
    info = trace.last_normalize_info if trace is not None else None
    return info.row_counts if info is not None else {}


def _add(rows: dict[str, int], more: Mapping[str, int]) -> None:
    for table, count in more.items():
        rows[table] = rows.get(table, 0) + count


def _reason(error: BaseException, context: BlockContext) -> str:
    """Return the innermost reason, with its place in the project: what dlt wraps around it tells of steps."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if is_of_project(causes[-1], context.root):
        return describe(causes[-1], context.root)
    # A single word, such as the key of a KeyError, is told by what was raised from it.
    telling = next((cause for cause in reversed(causes) if " " in str(cause)), causes[-1])
    lines = [line for line in str(telling).splitlines() if line.strip()]
    return f"{context.block.path}: {type(telling).__name__}: {lines[0] if lines else ''}"

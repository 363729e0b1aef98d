"""How an R block executes: by Rscript, in a process of its own, its frames handed over in files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from subprocess import run
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.blocks.children import run_child
from pipelines.blocks.r_frames import read_from_r, write_for_r
from pipelines.blocks.r_literals import named_vector, r_literal, r_text
from pipelines.context import BlockContext
from pipelines.errors import BlockSkipped, MillraceError
from pipelines.io.frames import to_arrow
from pipelines.model import BlockType

INTERPRETER = "Rscript"
NO_R = (
    f"R is not installed: {INTERPRETER} is not on the path; install R (Debian: r-base-core r-cran-data.table)"
)

# The function that a block of each type defines.
FUNCTIONS = {
    BlockType.DATA_LOADER: "load_data",
    BlockType.TRANSFORMER: "transform",
    BlockType.DATA_EXPORTER: "export_data",
    BlockType.CUSTOM: "custom",
}

_DRIVER = Path(__file__).with_name("r_driver.R")

# The ways to hand a frame over, the best first; "csv" is what R itself can read and write.
_EXCHANGES = ("nanoparquet", "arrow", "data.table")


class RError(MillraceError):
    """The code of an R block has stopped with an error."""


def run_r(context: BlockContext, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Execute the block's file and its function; return its data frame, or its value.

    Raises BlockSkipped where R is not installed, and RError with the message, file and line of an error in R.
    """
    rscript = shutil.which(INTERPRETER)
    if rscript is None:
        raise BlockSkipped(NO_R)
    with tempfile.TemporaryDirectory(prefix="millrace-r-") as name:
        folder = Path(name)
        tables = _lay_out(context, inputs, folder, _exchange(rscript))
        code = run_child(
            [rscript, "--vanilla", str(_DRIVER), name],
            folder=context.root,
            environ=_environ(),
            out=lambda line: context.logger.info("%s", line),
            err=lambda line: context.logger.warning("%s", line),
        )
        _raise_failure(context, folder, code)
        return _outputs(folder, tables)


@lru_cache(maxsize=8)
def _exchange(rscript: str) -> str:
    """Return the best way to hand frames over that this R knows."""
    names = ", ".join(map(r_text, _EXCHANGES))
    asked = f"for (p in c({names})) if (nzchar(system.file(package = p))) {{ cat(p); break }}"
    answer = run([rscript, "--vanilla", "-e", asked], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "csv"


def _lay_out(context: BlockContext, inputs: Sequence[Any], folder: Path, exchange: str) -> list[pa.Table]:
    """Write all that the driver reads; return the inputs that are tables."""
    tables, told = [], []
    suffix = "parquet" if exchange in ("nanoparquet", "arrow") else "csv"
    for place, data in enumerate(inputs):
        if not _is_frame(data):
            told.append(f"list(value = {r_literal(data)})")
            continue
        table = to_arrow(data)
        file = folder / f"input_{place + 1}.{suffix}"
        kinds = write_for_r(table, file, name=f"the output of {context.upstream[place]!r}")
        told.append(f"list(file = {r_text(file.name)}, kinds = {r_literal(kinds)})")
        tables.append(table)
    keywords = {name: value for name, value in context.keywords.items() if name != "logger"}
    settings = {
        "exchange": r_text(exchange),
        "wanted": r_text(FUNCTIONS[context.block.type]),
        "returns": r_literal(context.block.type is not BlockType.DATA_EXPORTER),
        "inputs": f"list({', '.join(told)})",
        "global_vars": named_vector(keywords),
        "kwargs": r_literal(keywords),
    }
    text = "".join(f"{name} <- {value}\n" for name, value in settings.items())
    (folder / "values.R").write_text(text, encoding="utf-8")
    (folder / "block.R").write_text(context.source, encoding="utf-8")
    return tables


def _is_frame(data: Any) -> bool:
    return isinstance(data, pd.DataFrame | pd.Series | pa.Table) or hasattr(data, "__arrow_c_stream__")


def _environ() -> dict[str, str]:
    """Return the environment, with a locale in which texts are Unicode: R takes them apart in C."""
    environ = dict(os.environ)
    named = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    if "utf" not in named.lower():
        environ["LC_ALL"] = "C.UTF-8"
    return environ


def _raise_failure(context: BlockContext, folder: Path, code: int) -> None:
    told = folder / "error.txt"
    if told.exists():
        line, _, message = told.read_text("utf-8", errors="replace").partition("\n")
        place = context.block.path if line == "0" else f"{context.block.path}:{line}"
        raise RError(f"{place}: {message.strip()}")
    if code:
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise RError(f"{context.block.path}: R {how}; the block's log has what it printed")


def _outputs(folder: Path, inputs: Sequence[pa.Table]) -> tuple[Any, ...]:
    frame = read_from_r(folder, inputs)
    if frame is not None:
        return (frame,)
    value = folder / "output.json"
    return (json.loads(value.read_text("utf-8")),) if value.exists() else ()

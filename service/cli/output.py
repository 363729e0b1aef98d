"""What commands print: JSON, or tables that are the same lines with and without a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    "succeeded": "green",
    "ok": "green",
    "ran": "green",
    "running": "cyan",
    "queued": "blue",
    "waiting": "yellow",
    "held": "yellow",
    "paused": "yellow",
    "failed": "bold red",
    "mapping_failed": "bold red",
    "quarantined": "bold red",
    "error": "bold red",
    "problem": "bold red",
    "warning": "yellow",
    "cancelled": "magenta",
    "upstream_failed": "red",
    "skipped": "dim",
}
_WHOLE = {"run", "event"}  # columns of ids, which people copy: never folded, however narrow the terminal
_PLAIN_WIDTH = 10_000  # without a terminal a line is never folded


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def console(*, stderr: bool = False) -> Console:
    """Return a console; NO_COLOR and TERM=dumb are honoured by rich itself."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=True
    )


def styled(word: object) -> Text:
    """Return a state or outcome in its colour."""
    return Text(str(word), style=_STYLES.get(str(word), ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table without frames. A value may be text, or a `Text` with a style; None is a dash."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for row in rows:
        grid.add_row(*(value if isinstance(value, Text) else Text(_shown(value)) for value in row))
    return grid


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print the table, or the sentence `empty` to standard error when there is no row."""
    if not rows:
        click.echo(empty, err=True)
        return
    console().print(table(columns, rows))


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values below each other; empty values are left out."""
    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in fields:
        if value in (None, "", (), [], {}):
            continue
        grid.add_row(Text(name, style="bold"), value if isinstance(value, Text) else Text(_shown(value)))
    console().print(grid)


def when(moment: datetime | None) -> str | None:
    """Return the time in UTC, to the second."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(begin: datetime | None, end: datetime | None) -> str | None:
    if begin is None or end is None:
        return None
    seconds = (end - begin).total_seconds()
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02} min"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return when(value) or "-"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)

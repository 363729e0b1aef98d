"""What one measure says, and the table of all of them."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psutil


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure, the limit taken beside it, and the aim."""

    store: str
    what: str
    figure: str
    limit: str  # what the same machine reached on the bare work, in the same run
    aim: str
    met: bool | None  # None where no aim is set

    @property
    def mark(self) -> str:
        return {True: "yes", False: "NO", None: ""}[self.met]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {system}"


def markdown(rows: Iterable[Row], now: datetime) -> str:
    """Return the table as it stands in docs/benchmarks.md."""
    lines = [
        f"Taken {now:%Y-%m-%d} on {machine()}.",
        "",
        "| store | what | figure | limit beside it | aim | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {r.store} | {r.what} | {r.figure} | {r.limit} | {r.aim} | {r.mark} |" for r in rows]
    return "\n".join(lines) + "\n"


def merged(old: str, new: str) -> str:
    """Return the old table with the lines that were measured anew, and further ones behind them."""
    fresh = {_name(line): line for line in new.splitlines() if line.startswith("| ")}
    kept = [fresh.pop(_name(line), line) for line in old.strip().splitlines()]
    return "\n".join([*kept, *fresh.values()]) + "\n"


def _name(line: str) -> tuple[str, ...]:
    """Name a row by its store and what it measures."""
    return tuple(cell.strip() for cell in line.split("|")[1:3])

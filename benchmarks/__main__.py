"""`make bench`: every measure on SQLite and on Postgres, in one table."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import accept, bucket, crowd, csvfiles, drain, export, lake, large, latency, sqlblock
from benchmarks.measure import Row, machine, markdown, merged
from benchmarks.project import write_bench_project
from benchmarks.running import Running, service
from tests.parts.postgres import PostgresServer, running_postgres

IDLE_SECONDS = 10
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARK = "<!-- table -->"
PARTS = ("sqlite", "postgres", "accept", "bucket", "children", "data", "export", "large")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table to docs/benchmarks.md")
    parser.add_argument("--only", choices=PARTS, help="measure only a part")
    parser.add_argument("--megabytes", type=int, default=2_000, help="how much CSV goes through in streams")
    options = parser.parse_args()
    console = Console(stderr=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder, running_postgres() as postgres:
        for row in _measures(options.only, Path(folder), postgres, options.megabytes):
            console.print(
                f"{row.store}: {row.what}: {row.figure} [{row.limit}] aim {row.aim} {row.mark}", markup=False
            )
            rows.append(row)
    Console().print(_table(rows))
    if options.write:
        _write(rows, options.only)


def _measures(only: str | None, folder: Path, postgres: PostgresServer, megabytes: int) -> Iterator[Row]:
    if only in (None, "sqlite"):
        yield from _service_measures("SQLite", folder / "sqlite")
    if only in (None, "postgres"):
        urls = [postgres.url(postgres.create_database()) for _ in range(2)]
        yield from _service_measures("Postgres", folder / "postgres", *urls)
    if only == "accept":
        yield from _accepting("SQLite", folder / "sqlite-accept", None)
        yield from _accepting(
            "Postgres", folder / "postgres-accept", postgres.url(postgres.create_database())
        )
    if only == "children":
        yield from _children("SQLite", folder / "sqlite-children", None)
        yield from _children(
            "Postgres", folder / "postgres-children", postgres.url(postgres.create_database())
        )
    if only in (None, "bucket"):
        yield from bucket.measure(folder)
    if only in (None, "export"):
        yield from export.measure(postgres, folder)
    if only in (None, "data"):
        yield from csvfiles.measure(folder)
        yield from lake.measure(folder)
        yield from sqlblock.measure(folder)
    if only in (None, "large"):
        yield from large.measure(postgres, folder, megabytes)


def _service_measures(
    store: str, folder: Path, url: str | None = None, crowd_url: str | None = None
) -> Iterator[Row]:
    folder.mkdir()
    project = write_bench_project(folder)
    with service(project, folder / "home", url) as running:
        yield from _at_rest(store, running)
        yield from latency.measure(store, running, folder)
        yield from latency.measure_children(store, running)
        yield from latency.measure_big(store, running, folder)
        yield from drain.measure(store, running, folder)
        yield from drain.measure_large(store, running, folder)
        with drain.busy_slots(running, folder / "release"):
            yield from accept.measure(store, running, folder, url)
    yield from crowd.measure(store, folder, crowd_url)


def _accepting(store: str, folder: Path, url: str | None) -> Iterator[Row]:
    """Measure accepting alone. Runs of another pipeline come first, so that all is warm."""
    folder.mkdir()
    project = write_bench_project(folder)
    with (
        service(project, folder / "home", url) as running,
        drain.busy_slots(running, folder / "release"),
    ):
        yield from accept.measure(store, running, folder, url)


def _children(store: str, folder: Path, url: str | None) -> Iterator[Row]:
    folder.mkdir()
    with service(write_bench_project(folder), folder / "home", url) as running:
        yield from latency.measure_children(store, running)


def _at_rest(store: str, running: Running) -> list[Row]:
    time.sleep(3)  # what starting left to do is done
    before, began = running.cpu_seconds(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    share = (running.cpu_seconds() - before) / (time.monotonic() - began)
    memory = running.memory_mb()
    names = f"{len(running.family())} processes"
    ready = running.seconds_to_ready
    return [
        Row(store, "start to ready, a worker warm", f"{ready:.1f} s", "", "≤ 4 s", ready <= 4),
        Row(
            store,
            "memory at rest (PSS)",
            f"{memory:.0f} MB, {names}",
            "Mage 660 MB",
            "≤ 500 MB",
            memory <= 500,
        ),
        Row(store, "processor at rest", f"{share:.2%} of a core", "", "≤ 1 %", share <= 0.01),
    ]


def _table(rows: list[Row]) -> Table:
    table = Table(title=f"Millrace on {machine()}")
    for heading in ("store", "what", "figure", "limit beside it", "aim", "met"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.store, row.what, row.figure, row.limit, row.aim, row.mark)
    return table


def _write(rows: list[Row], only: str | None) -> None:
    """Write the table into the document; of a part that was measured alone, only its lines."""
    before, mark, after = DOCUMENT.read_text().partition(MARK)
    old, end, rest = after.partition(MARK)
    written = markdown(rows, datetime.now(UTC))
    table = written if only is None else merged(old, written)
    DOCUMENT.write_text(f"{before}{mark}\n{table}{end}{rest}")


if __name__ == "__main__":
    main()

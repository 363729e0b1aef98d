"""CSV larger than the memory allowed, through load, transform, Postgres and Parquet, by the real service.

Measured is the worker process that runs the blocks, with all its children: anonymous memory, and resident
memory in all, which counts shared libraries and pages of files that are mapped.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.csv

from benchmarks.load import Connection, post
from benchmarks.measure import Row
from benchmarks.running import Running, service
from benchmarks.taxi import Database, taxi_frame
from tests.parts.postgres import PostgresServer

LIMIT_MB = 400
WORKER = "service.running.executors.host"
SECONDS_BETWEEN_SAMPLES = 0.05
MOST_SECONDS = 1_800

LOAD = """\
from pipelines import data_loader
from pipelines.io import Files

@data_loader
def load(*args, **kwargs):
    return Files.from_profile("default").stream(kwargs["path"])
"""

TRANSFORM = """\
from pipelines import transformer

@transformer(stream=True)
def price(frame, *args, **kwargs):
    frame["per_mile"] = frame["total_amount"] / frame["trip_distance"].where(frame["trip_distance"] > 0)
    return frame
"""

TO_POSTGRES = """\
from pipelines import data_exporter
from pipelines.io import Postgres

@data_exporter
def export(trips, *args, **kwargs):
    Postgres.from_profile("default").export(trips, "public", "large")
"""

TO_PARQUET = """\
from pipelines import data_exporter
from pipelines.io import Files

@data_exporter
def export(trips, *args, **kwargs):
    Files.from_profile("default").export(trips, kwargs["target"])
"""

BLOCKS = (
    ("load", "data_loader", "[]", LOAD),
    ("price", "transformer", "[load]", TRANSFORM),
    ("to_postgres", "data_exporter", "[price]", TO_POSTGRES),
    ("to_parquet", "data_exporter", "[price]", TO_PARQUET),
)

TRIGGER = """\
triggers:
- name: hook
  type: webhook
  verify: none
  variables:
    path: "{{ event.data.path }}"
    target: "{{ event.data.target }}"
"""


@dataclass
class Peak:
    """The most that was seen, in MB."""

    anonymous: float = 0.0
    resident: float = 0.0

    def see(self, anonymous: float, resident: float) -> None:
        self.anonymous = max(self.anonymous, anonymous)
        self.resident = max(self.resident, resident)


def measure(server: PostgresServer, folder: Path, megabytes: int) -> Iterator[Row]:
    source, target = folder / "large.csv", folder / "large.parquet"
    rows = write_csv(source, megabytes)
    database = Database(server, server.create_database())
    project = write_project(folder / "large", database)
    with service(project, folder / "large-home", None) as running:
        at_rest, peak, seconds = run(running, source, target)
    found = server.fetch("SELECT count(*) FROM large", database.name)
    assert found == [(rows,)], found
    source.unlink()
    assert peak.resident > 0, "no worker process was seen"
    yield Row(
        "",
        f"{megabytes:,} MB of CSV through load, transform, Postgres and Parquet",
        f"peak {peak.resident:.0f} MiB resident in the worker, {peak.anonymous:.0f} MiB of it anonymous; "
        f"{seconds:.0f} s, {rows:,} rows",
        f"the worker at rest {at_rest.resident:.0f} MiB",
        f"≤ {LIMIT_MB} MiB",
        peak.resident <= LIMIT_MB,
    )


def write_csv(path: Path, megabytes: int) -> int:
    """Write trips until the file is that large, and return how many there are."""
    rows = 100_000
    table = pa.Table.from_pandas(taxi_frame(rows), preserve_index=False)
    written = 0
    with path.open("wb") as file:
        while file.tell() < megabytes * 1_000_000:
            options = pyarrow.csv.WriteOptions(include_header=written == 0)
            pyarrow.csv.write_csv(table, file, options)
            written += rows
    return written


def write_project(project: Path, database: Database) -> Path:
    pipeline = project / "pipelines" / "large"
    pipeline.mkdir(parents=True)
    lines = ["name: large", "type: python", "blocks:"]
    for name, kind, upstream, code in BLOCKS:
        lines += [f"- name: {name}", f"  uuid: {name}", f"  type: {kind}", "  language: python"]
        lines.append(f"  upstream_blocks: {upstream}")
        path = project / f"{kind}s" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    (pipeline / "metadata.yaml").write_text("\n".join(lines) + "\n")
    (pipeline / "triggers.yaml").write_text(TRIGGER)
    (project / "metadata.yaml").write_text("name: large\n")
    (project / "io_config.yaml").write_text(json.dumps({"default": database.settings}))
    return project


def run(running: Running, source: Path, target: Path) -> tuple[Peak, Peak, float]:
    """Run the pipeline once; return memory at rest and at its peak, and the seconds it took."""
    workers = _workers(running)
    at_rest = _sample(workers, Peak())
    peak, ended = Peak(), threading.Event()
    watching = threading.Thread(target=_watch, args=(running, peak, ended))
    watching.start()
    began = time.perf_counter()
    try:
        _finished(running, source, target)
    finally:
        ended.set()
        watching.join()
    return at_rest, peak, time.perf_counter() - began


def _finished(running: Running, source: Path, target: Path) -> None:
    connection = Connection(running.port)
    answer = connection.send(post("/webhooks/large/hook", {"path": str(source), "target": str(target)}))
    [run_id] = answer.json()["run_ids"]
    deadline = time.monotonic() + MOST_SECONDS
    state = "queued"
    while state in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.5)
        found = connection.send(f"GET /api/v1/runs/{run_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        state = found.json()["state"]
    connection.close()
    assert state == "succeeded", found.body


def _workers(running: Running) -> list[psutil.Process]:
    """Return the worker processes: children of the engine, with their own children."""
    return [process for process in running.family() if WORKER in process.cmdline()]


def _watch(running: Running, peak: Peak, ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN_SAMPLES):
        _sample(_workers(running), peak)


def _sample(workers: list[psutil.Process], peak: Peak) -> Peak:
    """See the largest of the workers: one runs the pipeline, the others wait."""
    for worker in workers:
        try:
            family = [worker, *worker.children(recursive=True)]
            statuses = [_status(process.pid) for process in family]
        except (psutil.Error, OSError):
            continue  # it has just ended
        peak.see(*(sum(status[name] for status in statuses) for name in ("RssAnon", "VmRSS")))
    return peak


def _status(pid: int) -> dict[str, float]:
    """Return what the kernel counts of a process, in MiB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0].startswith(("Rss", "VmRSS"))
    }

"""A prefix of 100,000 objects, listed by the `gcs_object` sensor from the emulator, twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from benchmarks.measure import Row
from sensors import gcs
from sensors.base import TickContext
from sensors.registry import configure
from tests.parts.gcs import running_gcs

OBJECTS = 100_000
PAGE = 25_000  # of a listing; Google gives 1,000, but the emulator reads the whole bucket anew for every page


def measure(folder: Path) -> Iterator[Row]:
    """List in a process of its own, as the engine does; the limit is a bare listing by Google's client."""
    with running_gcs() as emulator:
        bucket = emulator.make_bucket()
        emulator.put_many(bucket, [f"year-{number % 10}-object-{number:06}.csv" for number in range(OBJECTS)])
        first = _tick(emulator.endpoint, bucket, folder, None)
        second = _tick(emulator.endpoint, bucket, folder, str(first["cursor"]))
        bare = _bare(emulator.endpoint, bucket)
    yield _row("first", first, bare, "")
    aim = f"no events, ≤ 1.5 × bare ({_seconds(second) / bare:.2f} ×)"
    yield _row("second", second, bare, aim, met=second["events"] == 0 and _seconds(second) <= 1.5 * bare)


def _row(which: str, ticked: Mapping[str, Any], bare: float, aim: str, *, met: bool | None = None) -> Row:
    figure = f"{_seconds(ticked):.1f} s, {ticked['memory_mb']:.0f} MB, {ticked['events']:,} events"
    return Row(
        "", f"{OBJECTS:,} objects listed, {which} tick", figure, f"bare listing {bare:.1f} s", aim, met
    )


def _seconds(ticked: Mapping[str, Any]) -> float:
    return float(ticked["seconds"])


def _tick(endpoint: str, bucket: str, folder: Path, cursor: str | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.bucket", endpoint, bucket, str(folder)]
    done = subprocess.run(command, input=json.dumps(cursor), capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _bare(endpoint: str, bucket: str) -> float:
    began = time.perf_counter()
    client = Client(
        project="bench-mark",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": endpoint},
    )
    assert sum(1 for _ in client.list_blobs(bucket, page_size=PAGE)) == OBJECTS
    return time.perf_counter() - began


def main() -> None:
    """Tick once and print what it took. The cursor comes by standard input."""
    endpoint, bucket, folder = sys.argv[1:]
    cursor = json.load(sys.stdin)
    gcs.LISTED_AT_ONCE = PAGE
    sensor = configure("gcs_object", {"bucket": bucket, "prefix": "year-", "endpoint": endpoint})
    context = TickContext(source="gcs_object:bench/bucket", now=datetime.now(UTC), root=Path(folder))
    began, events = time.perf_counter(), 0
    for page in sensor.tick(cursor, context):
        events += len(page.events) + len(page.baseline)
        cursor = page.cursor
    seconds = time.perf_counter() - began
    memory = psutil.Process().memory_full_info()
    print(
        json.dumps({"seconds": seconds, "events": events, "cursor": cursor, "memory_mb": memory.uss / 2**20})
    )


if __name__ == "__main__":
    main()

"""A backlog of runs, how fast it drains, and what accepting costs meanwhile."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from json import load
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import Connection, post, run_load
from benchmarks.measure import Row
from benchmarks.running import Running

BACKLOG = 500
LARGE_BACKLOG = 10_000
DRAIN_SECONDS = 300


@contextmanager
def busy_slots(running: Running, release: Path) -> Iterator[None]:
    """Keep every slot occupied inside the block; afterwards the queue is worked off."""
    release.unlink(missing_ok=True)
    connection = Connection(running.port)
    for number in range(psutil.cpu_count() or 1):
        connection.send(post("/webhooks/hold/hook", {"number": number, "stamp": str(release)}))
    connection.close()
    while count(running, "running") < (psutil.cpu_count() or 1):
        time.sleep(0.05)
    try:
        yield
    finally:
        release.touch()


def measure(store: str, running: Running, folder: Path) -> list[Row]:
    with busy_slots(running, folder / f"{store}.release"):
        run_load(running.port, _request, requests=BACKLOG)
    released = time.time()
    latencies = sorted(_accept_while(running, lambda: count(running, "queued") > 0))
    await_idle(running)
    backlog = [run for run in _runs(running, 4 * BACKLOG) if _seconds(run["created_at"]) < released][:BACKLOG]
    rate = BACKLOG / (max(_seconds(run["finished_at"]) for run in backlog) - released)
    p50, p99 = latencies[len(latencies) // 2] * 1000, latencies[int(len(latencies) * 0.99)] * 1000
    return [
        Row(
            store,
            f"backlog of {BACKLOG} runs of three blocks",
            f"{rate:.0f} runs/s",
            "rivals' best 72–356 runs/s (a queue library), Mage 1.2",
            "≥ 100 runs/s",
            rate >= 100,
        ),
        Row(
            store,
            "accepting while it drains, 1 connection",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            "",
            "",
            None,
        ),
    ]


def measure_large(store: str, running: Running, folder: Path) -> list[Row]:
    """Drain many queued events: does the pace hold when the queue is long?"""
    with busy_slots(running, folder / f"{store}.large"):
        run_load(running.port, _request, requests=LARGE_BACKLOG)
    began = time.monotonic()
    await_idle(running)
    seconds = time.monotonic() - began
    return [
        Row(
            store,
            f"{LARGE_BACKLOG:,} queued events drained",
            f"{seconds:.0f} s, {LARGE_BACKLOG / seconds:.0f} runs/s",
            "",
            "",
            None,
        )
    ]


def await_idle(running: Running) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        if not any(count(running, state) for state in ("queued", "running", "waiting")):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the backlog did not drain within {DRAIN_SECONDS} s")


def count(running: Running, state: str) -> int:
    """Return how many runs of that state the service counts in its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    label = f'millrace_runs{{state="{state}"}} '
    return int(sum(float(line.removeprefix(label)) for line in text.splitlines() if line.startswith(label)))


def _accept_while(running: Running, is_draining: Any) -> list[float]:
    """Post now and then, as a sender would, until the queue is empty."""
    done = threading.Event()
    latencies: list[float] = []

    def sender() -> None:
        connection = Connection(running.port)
        while not done.wait(0.02):
            began = time.perf_counter()
            connection.send(_request(0))
            latencies.append(time.perf_counter() - began)
        connection.close()

    thread = threading.Thread(target=sender)
    thread.start()
    deadline = time.monotonic() + DRAIN_SECONDS
    while is_draining() and time.monotonic() < deadline:
        time.sleep(0.2)
    done.set()
    thread.join()
    return latencies


def _request(index: int) -> bytes:
    return post("/webhooks/noop/hook", {"number": index, "stamp": ""})


def _runs(running: Running, most: int) -> list[dict[str, Any]]:
    """Return the newest finished runs of the pipeline, newest first."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < most:
        url = f"http://127.0.0.1:{running.port}/api/v1/runs?pipeline=noop&state=succeeded&limit=100{cursor}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = load(answer)
        found += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    return found


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

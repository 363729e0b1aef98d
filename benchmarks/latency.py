"""From POST to the first line of block code, to a finished run, and from block to block."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from benchmarks.load import Connection, post
from benchmarks.measure import Row, median
from benchmarks.project import CHAIN_LENGTH, CHILDREN
from benchmarks.running import Running

RUNS = 60
WARM_UP = 5


def measure(store: str, running: Running, folder: Path) -> list[Row]:
    stamps = folder / f"{store}.stamps"
    first, finished = _noop_runs(running, stamps)
    chain = median([_finished_seconds(running, "chain", "") for _ in range(7)][2:])
    small = median(_hand_overs(running, "small", folder / f"{store}.small", 25)[4:])
    return [
        Row(
            store,
            "POST to first line of block code",
            f"p50 {median(first) * 1000:.1f} ms, p99 {_p99(first):.1f} ms",
            "rivals' best p50 10 ms (a queue library), Mage 2,300 ms",
            "p50 ≤ 15 ms",
            median(first) <= 0.015,
        ),
        Row(
            store,
            "POST to run finished, three blocks",
            f"p50 {median(finished) * 1000:.1f} ms, p99 {_p99(finished):.1f} ms",
            "rivals' best p50 22 ms (a queue library), Mage 32,000 ms",
            "p50 ≤ 40 ms",
            median(finished) <= 0.040,
        ),
        Row(
            store,
            "run of 40 blocks in a row",
            f"{chain:.3f} s",
            "rivals' best 0.2 s",
            "≤ 0.3 s",
            chain <= 0.3,
        ),
        Row(store, "small frame, block to block", f"{small * 1000:.2f} ms", "", "≤ 1 ms", small <= 0.001),
    ]


def measure_children(store: str, running: Running) -> list[Row]:
    """A dynamic block with 1,000 children, against as many blocks of other runs one after the other."""
    fan = median([_finished_seconds(running, "fan", "") for _ in range(4)][1:])
    chain = median([_finished_seconds(running, "chain", "") for _ in range(5)]) * CHILDREN / CHAIN_LENGTH
    return [
        Row(
            store,
            f"dynamic block with {CHILDREN:,} children",
            f"{fan:.2f} s, {CHILDREN / fan:.0f} children/s",
            f"as many blocks in rows of {CHAIN_LENGTH} {chain:.2f} s ({fan / chain:.2f} ×)",
            "",
            None,
        )
    ]


def measure_big(store: str, running: Running, folder: Path) -> list[Row]:
    """A frame of 1,000,000 × 10 floats: to the next block, and until it is durable."""
    handed = median(_hand_overs(running, "big", folder / f"{store}.big", 6)[1:])
    raw, ours = [], []
    for _ in range(7):  # in turn, so that both meet the same disk
        raw.append(_raw_write(folder))
        ours += _hand_overs(running, "big_durable", folder / f"{store}.durable", 1)
    bare, durable = median(raw), median(ours)
    return [
        Row(
            store,
            "1,000,000 × 10 frame, block to block",
            f"{handed * 1000:.1f} ms",
            "rivals' best 230 ms",
            "≤ 10 ms",
            handed <= 0.010,
        ),
        Row(
            store,
            "the same, until durable and recorded",
            f"{durable * 1000:.0f} ms",
            f"raw write and fsync of the same bytes {bare * 1000:.0f} ms",
            f"≤ 2 × raw ({durable / bare:.2f} ×)",
            durable <= 2 * bare,
        ),
    ]


def _noop_runs(running: Running, stamps: Path) -> tuple[list[float], list[float]]:
    connection = Connection(running.port)
    first, finished = [], []
    for number in range(RUNS + WARM_UP):
        stamps.unlink(missing_ok=True)
        request = post("/webhooks/noop/hook?wait=30", {"number": number, "stamp": str(stamps)})
        posted = time.time_ns()
        began = time.perf_counter()
        answer = connection.send(request)
        seconds = time.perf_counter() - began
        assert answer.status == 200, answer
        assert answer.json()["run"]["state"] == "succeeded", answer.body
        if number >= WARM_UP:
            finished.append(seconds)
            first.append((int(stamps.read_text().split()[0]) - posted) / 1e9)
    connection.close()
    return first, finished


def _finished_seconds(running: Running, pipeline: str, stamp: str) -> float:
    connection = Connection(running.port)
    request = post(f"/webhooks/{pipeline}/hook?wait=60", {"number": 1, "stamp": stamp})
    began = time.perf_counter()
    answer = connection.send(request)
    seconds = time.perf_counter() - began
    connection.close()
    assert answer.json()["run"]["state"] == "succeeded", answer.body
    return seconds


def _hand_overs(running: Running, pipeline: str, stamps: Path, runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        stamps.unlink(missing_ok=True)
        _finished_seconds(running, pipeline, str(stamps))
        returned, received = (int(line) for line in stamps.read_text().split())
        seconds.append((received - returned) / 1e9)
    return seconds


def _raw_write(folder: Path) -> float:
    data = os.urandom(80_000_000)  # pages that are really there: zeros would first have to be faulted in
    began = time.perf_counter()
    with open(folder / "raw", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    (folder / "raw").unlink()
    return seconds


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[98] * 1000

"""Accepting webhooks, against an empty route and a route that only commits one row."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.load import Load, post, run_load
from benchmarks.measure import Row
from benchmarks.running import Running, bare

REQUESTS = 2500
WARM_UP = 200
ROUNDS = 7


def measure(store: str, running: Running, folder: Path, database_url: str | None) -> list[Row]:
    """Measure in rounds of all three in turn, so that each meets the same machine; quote the medians.

    The caller keeps every slot busy, so that accepting alone is measured; `drain` measures it beside runs.
    """
    loads: dict[str, list[Load]] = {"ours": [], "empty": [], "commit": []}
    with (
        bare("empty", folder / "empty", None) as empty,
        bare("commit", folder / "commit", database_url) as commit,
    ):
        ports = {"ours": running.port, "empty": empty.port, "commit": commit.port}
        for round_number in range(ROUNDS):
            for name, port in ports.items():
                loads[name].append(_burst(name, port, round_number))
    ours, empty_rate, commit_rate = (statistics.median(load.per_second for load in loads[n]) for n in loads)
    pairs = zip(loads["ours"], loads["commit"], strict=True)
    ratio = statistics.median(mine.per_second / bare.per_second for mine, bare in pairs)
    p50 = statistics.median(load.percentile_ms(50) for load in loads["ours"])
    p99 = statistics.median(load.percentile_ms(99) for load in loads["ours"])
    refused = sum(load.refused for load in loads["ours"])
    return [
        Row(
            store,
            "webhooks accepted with mapping, 8 connections",
            f"{ours:,.0f}/s, {refused} refused",
            f"bare group commit {commit_rate:,.0f}/s, empty route {empty_rate:,.0f}/s",
            f"≥ 65 % of bare group commit ({ratio:.0%})",
            ratio >= 0.65 and refused == 0,
        ),
        Row(
            store,
            "the same, latency",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
            f"bare p99 {statistics.median(load.percentile_ms(99) for load in loads['commit']):.1f} ms",
            "p99 ≤ 25 ms",
            p99 <= 25,
        ),
    ]


def _burst(name: str, port: int, round_number: int) -> Load:
    path = "/webhooks/noop/hook" if name == "ours" else "/"

    def request_of(index: int) -> bytes:
        return post(path, {"number": round_number * 100_000 + index, "stamp": ""})

    run_load(port, request_of, requests=WARM_UP)
    return run_load(port, request_of, requests=REQUESTS)

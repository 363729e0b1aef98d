"""Accepting webhooks, against an empty route and a route that only commits one row."""

from __future__ import annotations

import base64
import hmac
import json
import statistics
import time
from pathlib import Path

from benchmarks.load import Load, post, run_load
from benchmarks.measure import Row
from benchmarks.project import SECRET
from benchmarks.running import Running, bare

REQUESTS = 2500
WARM_UP = 200
ROUNDS = 7


def measure(store: str, running: Running, folder: Path, database_url: str | None) -> list[Row]:
    """Measure in rounds of all in turn, so that each meets the same machine; quote the medians.

    The caller keeps every slot busy, so that accepting alone is measured; `drain` measures it beside runs.
    """
    loads: dict[str, list[Load]] = {"ours": [], "signed": [], "empty": [], "commit": []}
    with (
        bare("empty", folder / "empty", None) as empty,
        bare("commit", folder / "commit", database_url) as commit,
    ):
        ports = {"ours": running.port, "signed": running.port, "empty": empty.port, "commit": commit.port}
        for round_number in range(ROUNDS):
            for name, port in ports.items():
                loads[name].append(_burst(name, port, round_number))
    ours, signed_rate, empty_rate, commit_rate = (
        statistics.median(load.per_second for load in loads[name]) for name in loads
    )
    ratio, signed_ratio = _ratio(loads["ours"], loads["commit"]), _ratio(loads["signed"], loads["commit"])
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
        Row(
            store,
            "webhooks with signature and mapping",
            f"{signed_rate:,.0f}/s",
            f"bare group commit {commit_rate:,.0f}/s",
            f"≥ 60 % of bare group commit ({signed_ratio:.0%})",
            signed_ratio >= 0.6,
        ),
    ]


def _ratio(ours: list[Load], bare: list[Load]) -> float:
    pairs = zip(ours, bare, strict=True)
    return statistics.median(mine.per_second / its.per_second for mine, its in pairs)


def _burst(name: str, port: int, round_number: int) -> Load:
    # Made before they are sent: signing is the sender's work.
    requests = [_request(name, round_number * 100_000 + index) for index in range(WARM_UP + REQUESTS)]
    run_load(port, requests.__getitem__, requests=WARM_UP)
    return run_load(port, lambda index: requests[WARM_UP + index], requests=REQUESTS)


def _request(name: str, number: int) -> bytes:
    body = {"number": number, "stamp": ""}
    match name:
        case "ours":
            return post("/webhooks/noop/hook", body)
        case "signed":
            return post("/webhooks/noop/signed", body, _signature(f"msg_{number}", json.dumps(body)))
    return post("/", body)


def _signature(message_id: str, body: str) -> dict[str, str]:
    stamp = str(int(time.time()))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{stamp}.{body}".encode(), "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signature}

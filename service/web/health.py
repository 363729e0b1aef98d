"""Probes and metrics: is this process alive, can the service do its work, and how much of it is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from http import HTTPStatus

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.runtime import Runtime
from service.store import engines
from service.store.measures import Measures, measure
from service.web.parts import WebParts
from service.web.problems import RETRY_AFTER_SECONDS, Refusal

NO_ENGINE = "No engine is alive: events are accepted and kept, but nothing runs. Start one: millrace engine"


class StoreCollector(Collector):
    """Computes every number from the store at the scrape, so that all processes tell the same."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterator[Metric]:
        return iter(())  # nothing is known before the store is asked

    def collect(self) -> Iterator[Metric]:
        try:
            with self._runtime.database.read() as connection:
                measures = measure(connection)
        except StoreUnavailable:
            yield GaugeMetricFamily("millrace_store_up", "1 when the store answered this scrape.", value=0)
            return
        yield GaugeMetricFamily("millrace_store_up", "1 when the store answered this scrape.", value=1)
        yield from _families(measures, self._runtime.clock())


def _families(measures: Measures, now: datetime) -> Iterator[Metric]:
    runs = GaugeMetricFamily("millrace_runs", "Runs in the store, by state.", labels=["state"])
    for state, count in measures.runs.items():
        runs.add_metric([state.value], count)
    yield runs
    events = GaugeMetricFamily("millrace_events", "Events in the store, by outcome.", labels=["outcome"])
    for outcome, count in measures.events.items():
        events.add_metric([outcome.value], count)
    yield events
    yield GaugeMetricFamily(
        "millrace_queue_age_seconds",
        "Age of the oldest queued run; 0 when none is queued.",
        value=_age(measures.oldest_queued_at, now) if measures.oldest_queued_at else 0,
    )
    heartbeats = GaugeMetricFamily(
        "millrace_engine_heartbeat_age_seconds", "Time since an engine last showed itself.", labels=["engine"]
    )
    for engine, beat_at in measures.engine_beats.items():
        heartbeats.add_metric([engine], _age(beat_at, now))
    yield heartbeats


def engine_is_alive(runtime: Runtime) -> bool:
    """True when some engine showed itself within a lease. Raises StoreUnavailable."""
    with runtime.database.read() as connection:
        lease = timedelta(seconds=runtime.settings.lease_seconds)
        return bool(engines.alive(connection, now=runtime.clock(), within=lease))


def blueprint(parts: WebParts) -> Blueprint:
    health = Blueprint("health", __name__)
    registry = CollectorRegistry()
    registry.register(StoreCollector(parts.runtime))

    @health.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="alive")

    @health.get("/readyz")
    def readyz() -> Response:
        if not engine_is_alive(parts.runtime):
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                NO_ENGINE,
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        return jsonify(status="ready", store="up", engine="alive")

    @health.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return health


def _age(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())

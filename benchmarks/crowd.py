"""A thousand schedules and two hundred sensors on one engine: how late ticks are, and what waiting costs."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from benchmarks.measure import Row
from benchmarks.project import write_crowd_project
from benchmarks.running import Running, service
from service.store.session import Database
from service.store.tables import sensor_ticks, ticks

SCHEDULES = 1000
SENSORS = 200
SECONDS = 100  # over which ticks are watched; every schedule is due at each whole minute, all of them at once
QUIET_SECONDS = 20
READY_MARGIN_SECONDS = 5


def measure(store: str, folder: Path, url: str | None) -> list[Row]:
    """Start a service of its own for the crowd, and look at what its engine has recorded."""
    home = folder / "crowd-home"
    project = write_crowd_project(folder, schedules=SCHEDULES, sensors=SENSORS)
    with service(project, home, url) as running:
        ready_at = datetime.now(UTC)
        quiet = _processor_between_minutes(running)
        began, before = time.monotonic(), running.cpu_seconds()
        time.sleep(SECONDS)
        busy = (running.cpu_seconds() - before) / (time.monotonic() - began)
        database = Database(url or f"sqlite:///{home / 'millrace.db'}", home=home)
        schedules, watched = _schedule_lateness(database), _sensor_lateness(database, ready_at)
        database.close()
    return [
        _row(store, f"{SCHEDULES:,} schedules due at once, lateness", schedules),
        _row(store, f"{SENSORS} sensors every 30 s, lateness", watched),
        Row(
            store,
            "processor with these, nothing due / over the minutes",
            f"{quiet:.1%} / {busy:.1%} of a core",
            "",
            "",
            None,
        ),
    ]


def _row(store: str, what: str, late: list[float]) -> Row:
    cuts = statistics.quantiles(late, n=100, method="inclusive")
    figure = f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s ({len(late):,} ticks)"
    return Row(store, what, figure, "", "p99 ≤ 5 s", cuts[98] <= 5)


def _processor_between_minutes(running: Running) -> float:
    """Return the share of a core while no schedule is due; sensors tick meanwhile."""
    second = time.time() % 60
    time.sleep(
        (60 - second if second > 60 - QUIET_SECONDS - READY_MARGIN_SECONDS else 0) + READY_MARGIN_SECONDS
    )
    before, began = running.cpu_seconds(), time.monotonic()
    time.sleep(QUIET_SECONDS)
    return (running.cpu_seconds() - before) / (time.monotonic() - began)


def _schedule_lateness(database: Database) -> list[float]:
    query = select(ticks.c.tick_at, ticks.c.recorded_at).where(ticks.c.outcome != "missed")
    with database.read() as connection:
        return [(recorded - due).total_seconds() for due, recorded in connection.execute(query)]


def _sensor_lateness(database: Database, since: datetime) -> list[float]:
    """Return the lateness of ticks due after `since`: the first of each is called at the start."""
    query = select(sensor_ticks.c.tick_at, sensor_ticks.c.started_at).where(sensor_ticks.c.tick_at > since)
    with database.read() as connection:
        return [(began - due).total_seconds() for due, began in connection.execute(query)]

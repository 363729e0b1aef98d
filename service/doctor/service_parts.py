"""The service's own parts: the store, the engines, the clocks, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from service.doctor.findings import Finding, Patient, problem, warning, well
from service.errors import StoreError
from service.store import engines as engine_rows
from service.store.migrate import HEAD
from service.store.session import Commit

MOST_SKEW = timedelta(seconds=2)
LEAST_FREE_BYTES = 1_000_000_000


def store(patient: Patient) -> Iterator[Finding]:
    """Look whether the store can be read and written."""
    database = patient.runtime.database
    try:
        database.write(Commit.ENGINE, lambda tx: tx.now)
    except StoreError as error:
        yield problem(
            "store",
            database.name,
            f"cannot be written: {error}",
            "start the database, or mend MILLRACE_DATABASE_URL; webhooks are answered 503 until then",
        )
        return
    yield well("store", database.name, f"can be written, schema {HEAD}")


def engines(patient: Patient) -> Iterator[Finding]:
    """Look for an engine that has shown itself within a lease."""
    runtime = patient.runtime
    lease = timedelta(seconds=runtime.settings.lease_seconds)
    with runtime.database.read() as connection:
        known = engine_rows.listing(connection)
    now = runtime.database.write(Commit.ENGINE, lambda tx: tx.now)
    alive = [engine for engine in known if now - engine.beat_at <= lease]
    for engine in alive:
        age = (now - engine.beat_at).total_seconds()
        yield well("engine", engine.id, f"showed itself {age:.0f} s ago, {engine.slots} slots")
    for engine in known:
        if engine not in alive:
            yield warning(
                "engine",
                engine.id,
                f"is silent since {engine.beat_at.isoformat(timespec='seconds')}",
                "nothing to do if it was taken down; else look at its log. It is forgotten after a day",
            )
    if not alive:
        yield problem(
            "engine",
            "",
            "none is alive: events are accepted and kept, but nothing runs",
            "start one: `millrace start`, or `millrace engine`",
        )


def clock(patient: Patient) -> Iterator[Finding]:
    """Compare this machine's clock with the store's: signatures are judged by one, leases by the other."""
    runtime = patient.runtime
    theirs = runtime.database.write(Commit.ENGINE, lambda tx: tx.now)
    skew = abs(runtime.clock() - theirs)
    if skew <= MOST_SKEW:
        yield well("clock", "", f"{skew.total_seconds():.1f} s from the store's")
        return
    yield problem(
        "clock",
        "",
        f"is {skew.total_seconds():.0f} s from the store's: good signatures may be refused as stale",
        "let both machines keep time by NTP",
    )


def disk(patient: Patient) -> Iterator[Finding]:
    """Look at the room for state and checkpoints."""
    folders = {patient.runtime.settings.home, patient.runtime.settings.checkpoints}
    for folder in sorted(folders):
        if not folder.exists():
            continue
        free = shutil.disk_usage(folder).free
        if free >= LEAST_FREE_BYTES:
            yield well("disk", str(folder), f"{free / 1e9:.1f} GB free")
        else:
            yield problem(
                "disk",
                str(folder),
                f"only {free / 1e6:.0f} MB free",
                "make room, or lower MILLRACE_CHECKPOINT_GB and the retention settings",
            )

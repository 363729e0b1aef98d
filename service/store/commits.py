"""The names of all commits, which are also the places where a test can crash the process."""

from __future__ import annotations

from enum import StrEnum


class Commit(StrEnum):
    """What a write transaction is for. Every one has a crash point before and after its commit."""

    MIGRATE = "migrate"
    ACCEPT = "accept"  # events of a door, their matches and runs
    REFUSE = "refuse"
    ENQUEUE = "enqueue"  # a run by hand
    CLAIM = "claim"
    REPORT = "report"  # what claimed runs did
    RENEW = "renew"
    RESCUE = "rescue"
    CANCEL = "cancel"
    RETRY = "retry"
    TICK = "tick"  # of a schedule
    SENSOR = "sensor"  # claim, page and end of a sensor's tick
    TRIGGER = "trigger"  # first sight, pause, resume
    SETTLE = "settle"  # a batch and its run
    ENGINE = "engine"  # a heartbeat
    ANNOUNCE = "announce"  # events of ends of runs, and what is sent of them
    SEND = "send"  # claim and result of a try to send an event
    PRUNE = "prune"
    FORGET = "forget"
    REPLAY = "replay"
    BACKFILL = "backfill"  # submitting, driving and changing one


ALL_CRASH_POINTS: frozenset[str] = frozenset(
    f"{commit}.{moment}" for commit in Commit for moment in ("before_commit", "after_commit")
)

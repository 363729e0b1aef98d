"""What the engine tells worker processes: who they are, and the runs they are to execute."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.settings import Settings
from service.store.values import ClaimedRun


def hello_of(settings: Settings) -> dict[str, Any]:
    """Return what every worker process is told first."""
    return {
        "checkpoints": str(settings.checkpoints),
        "secrets": str(settings.home / "secrets"),
        "lease_seconds": settings.lease_seconds,
        "runs_per_process": settings.runs_per_process,
        "memory_mb": settings.block_memory_mb,
        "block_log_characters": settings.block_log_characters,
        "log_line_characters": settings.log_line_characters,
        "crash_at": settings.crash_at,
    }


def run_message(claimed: ClaimedRun, root: str) -> dict[str, Any]:
    """Return the message that gives a run to a worker process. Times are ISO text."""
    run = claimed.run
    return {
        "type": "run",
        "run_id": run.id,
        "project": run.project,
        "root": root,
        "pipeline": run.pipeline,
        "pin": claimed.pin.hash,
        "sources": dict(claimed.pin.sources),
        "variables": dict(run.variables),
        "trigger": run.trigger,
        "event": claimed.event,
        "execution_date": _text(run.execution_date),
        "interval_start": _text(run.interval_start),
        "interval_end": _text(run.interval_end),
        "timezone": run.timezone,
        "attempt": run.attempt,
        "selection": list(run.selection),
        "progress": {
            block.name: {
                "state": str(block.state),
                "attempt": block.attempt,
                "deaths": block.deaths,
                "checkpoint": block.checkpoint,
                "volatile": block.volatile,
                "retry_at": _text(block.retry_at),
            }
            for block in run.blocks
        },
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

"""What the engine and its worker processes tell each other, as JSON has it: times are ISO text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.settings import Settings
from service.store.calls import Outputs
from service.store.values import ClaimedRun, LogLine, Run


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
        "options": dict(run.options),
        "progress": {
            block.name: {
                "state": str(block.state),
                "attempt": block.attempt,
                "deaths": block.deaths,
                "checkpoint": block.checkpoint,
                "volatile": block.volatile,
                "retry_at": _text(block.retry_at),
                "rows": block.rows,
                "error": block.error,
                "killed": block.killed,
                "first_started_at": _text(block.first_started_at),
            }
            for block in run.blocks
        },
    }


def log_line_of(line: Mapping[str, Any]) -> LogLine:
    """Return a line of a "logs" message; the store gives it its number."""
    return LogLine(
        seq=0,
        at=datetime.fromisoformat(line["at"]),
        level=line["level"],
        text=line["text"],
        block=line["block"],
        attempt=line["attempt"],
    )


def run_answer(run: Run, *, is_new: bool = False) -> dict[str, Any]:
    """Return a run as a block sees it: the fields of `pipelines.calls.CalledRun`."""
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "state": str(run.state),
        "variables": dict(run.variables),
        "execution_date": _text(run.execution_date),
        "created_at": _text(run.created_at),
        "started_at": _text(run.started_at),
        "finished_at": _text(run.finished_at),
        "error": run.error,
        "is_new": is_new,
    }


def outputs_message(outputs: Outputs) -> dict[str, Any]:
    """Return where outputs are stored: the fields of `pipelines.calls.StoredOutputs`."""
    return {
        "run_id": outputs.run_id,
        "finished_at": _text(outputs.finished_at),
        "manifests": {name: dict(manifest) for name, manifest in outputs.manifests.items()},
    }


def moment_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

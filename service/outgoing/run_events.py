"""The end of a run as an event, and an event as a CloudEvent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sensors.event import Event
from service.intake.cloudevents import HOPS
from service.store.values import NewEvent, Run, RunState


def event_type(state: RunState) -> str:
    return f"run.{state}"


def event_source(pipeline: str) -> str:
    return f"run:{pipeline}"


def run_event(run: Run) -> Event:
    """Make the event of a run that is over. A retry of the run that ends is an event of its own."""
    assert run.finished_at is not None
    return Event(
        source=event_source(run.pipeline),
        key=f"{run.id}/{run.attempt}",
        type=event_type(run.state),
        time=run.finished_at,
        subject=run.id,
        data={
            "run_id": run.id,
            "pipeline": run.pipeline,
            "state": str(run.state),
            "trigger": run.trigger,
            "event_id": run.event_id,
            "execution_date": _iso(run.execution_date),
            "variables": dict(run.variables),
            "error": run.error,
            "attempt": run.attempt,
            "started_at": _iso(run.started_at),
            "finished_at": _iso(run.finished_at),
            "seconds": (run.finished_at - run.started_at).total_seconds() if run.started_at else None,
        },
        hops=run.hops + 1,
    )


def cloudevent_text(event: NewEvent, pipeline: str) -> str:
    """Return the event as a structured CloudEvent, for the world outside.

    Its source names the project as well; the extension lets a chain that leads back here know its length.
    """
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/projects/{event.project}/pipelines/{pipeline}",
        "type": event.type,
        "time": _iso(event.time),
        "subject": event.subject,
        "datacontenttype": "application/json",
        HOPS: event.hops,
        "data": json.loads(event.data) if event.data is not None else None,
    }
    return json.dumps(document)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")

"""What a sensor is handed for a tick, in an engine and in a sensor process alike."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.io.config import Profiles
from sensors.base import Existing, SensorError, TickContext
from service.watching.messages import TickRequest


def tick_context(request: TickRequest, profiles: Profiles, *, is_stopping: Callable[[], bool]) -> TickContext:
    """Raises SensorError for an `existing` that cannot be read."""
    try:
        existing = Existing.parse(request.existing)
    except ValueError as error:
        raise SensorError(str(error)) from None
    return TickContext(
        source=request.source,
        now=request.now,
        root=request.root,
        existing=existing,
        profile=profiles.profile,
        is_stopping=is_stopping,
        listen_seconds=request.listen_seconds,
    )

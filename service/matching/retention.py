"""How long an event is kept: the longest that any trigger wants which it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long events are kept, and their data. What a trigger leaves open is the service's to say."""

    payload: timedelta | None = None
    events: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ends:
    """When an event loses its data, and when it goes. None: as the service's settings say then."""

    payload_until: datetime | None = None
    keep_until: datetime | None = None


NO_ENDS = Ends()


def lifetime_of(spec: Mapping[str, Any]) -> Lifetime:
    """Return what a trigger's `retention` says, in seconds as `pipelines` reads it."""
    wanted = spec.get("retention") or {}
    payload, events = wanted.get("payload"), wanted.get("events")
    return Lifetime(
        None if payload is None else timedelta(seconds=payload),
        None if events is None else timedelta(seconds=events),
    )


def ends_of(wanted: Iterable[Lifetime], now: datetime, service: Lifetime) -> Ends:
    """Return the ends of an event that came `now`. A trigger that says nothing relies on the service."""
    lifetimes = list(wanted)
    if not any(one.payload or one.events for one in lifetimes):
        return NO_ENDS
    payload = _longest([one.payload for one in lifetimes], service.payload)
    events = _longest([one.events for one in lifetimes], service.events)
    return Ends(
        None if payload is None else now + payload,
        None if events is None else now + events,
    )


def _longest(wanted: list[timedelta | None], service: timedelta | None) -> timedelta | None:
    said = [one for one in wanted if one is not None]
    if not said:
        return None
    if len(said) < len(wanted) and service is not None:
        said.append(service)
    return max(said)

"""Events and matches as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.store.bulk import BulkInsert, Together
from service.store.run_rows import add_runs
from service.store.tables import events, matches
from service.store.values import NewEvent, NewMatch

_event_rows = BulkInsert(events)
_match_rows = BulkInsert(matches)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event of a batch, with its place in the answer."""

    place: int
    digest: bytes
    event: NewEvent


def add_events(inserts: Together, new: Sequence[NewEvent]) -> None:
    """Add the inserts of events with their matches and runs."""
    inserts.add(_event_rows, [_event_row(event) for event in new])
    add_matches(inserts, [(event, 0, event.matches) for event in new])


def add_matches(inserts: Together, new: Sequence[tuple[NewEvent, int, Sequence[NewMatch]]]) -> None:
    """Add the inserts of matches and their runs: for each event, the place of the first, and the matches."""
    inserts.add(
        _match_rows,
        [
            _match_row(event, first + number, match)
            for event, first, found in new
            for number, match in enumerate(found)
        ],
    )
    add_runs(
        inserts,
        [
            (match.run, event.received_at)
            for event, _, found in new
            for match in found
            if match.run is not None
        ],
    )


def _event_row(event: NewEvent) -> dict[str, Any]:
    return {
        "id": event.id,
        "project": event.project,
        "source": event.source,
        "key": event.key,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "received_at": event.received_at,
        "outcome": event.outcome.value,
        "reason": event.reason,
        "data": event.data,
        "raw": event.raw,
        "content_type": event.content_type,
        "headers": dict(event.headers) or None,
        "replay_of": event.replay_of,
        "payload_expired": False,
        "hops": event.hops,
        "payload_until": event.payload_until,
        "keep_until": event.keep_until,
    }


def _match_row(event: NewEvent, position: int, match: NewMatch) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "project": event.project,
        "pipeline": match.pipeline,
        "trigger": match.trigger,
        "position": position,
        "outcome": match.outcome.value,
        "reason": match.reason,
        "run_id": match.run.id if match.run else None,
        "settle_group": match.settle_group,
    }

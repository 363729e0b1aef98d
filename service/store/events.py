"""Records events: each once for ever, with what every trigger made of it, in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select

from service.store.bulk import BulkInsert, Together
from service.store.database import Transaction
from service.store.erasure import forget
from service.store.event_reading import get, listing, raw_of
from service.store.faults import fault_of_values
from service.store.held import held, release_held
from service.store.keys import Digester
from service.store.run_rows import add_runs
from service.store.tables import deliveries, event_keys, events, matches
from service.store.values import NewEvent, Outcome, Recorded, Verdict

__all__ = ["forget", "get", "held", "listing", "raw_of", "record", "record_shared", "release_held"]

_insert_keys = BulkInsert(
    event_keys, "digest", "event_id", "first_seen", tail="ON CONFLICT DO NOTHING RETURNING digest"
)
_event_rows = BulkInsert(events)
_matches = BulkInsert(matches)
_delivery_rows = BulkInsert(deliveries, "event_id", "verdict", "reason", "at", "road")
_ORIGINALS = (
    select(
        event_keys.c.digest,
        event_keys.c.event_id,
        event_keys.c.run_ids,
        func.coalesce(events.c.outcome, event_keys.c.outcome).label("outcome"),
        events.c.reason,
    )
    .select_from(event_keys.outerjoin(events, events.c.id == event_keys.c.event_id))
    .where(event_keys.c.digest.in_(bindparam("digests", expanding=True)))
)
_MATCHED_RUNS = (
    select(matches.c.event_id, matches.c.run_id)
    .where(matches.c.event_id.in_(bindparam("event_ids", expanding=True)), matches.c.run_id.is_not(None))
    .order_by(matches.c.event_id, matches.c.position)
)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One event of a batch, with its place in the answer."""

    place: int
    digest: bytes
    event: NewEvent


_Answers = dict[int, Recorded | Exception]  # by place
_How = Callable[[Transaction, Sequence[_Arrival]], _Answers]


def record(tx: Transaction, new: Sequence[NewEvent]) -> list[Recorded | Exception]:
    """Record a batch and answer each event in its place.

    An event whose key is known gets the ids of the original; one that cannot be stored gets its exception,
    and the others are stored all the same. Notifies "queued" when a run was made.
    """
    return _record_by(_record_guarded, tx, new)


def record_shared(tx: Transaction, new: Sequence[NewEvent]) -> list[Recorded | Exception]:
    """Record like `record`, without a savepoint: the writer tries those of a failed batch one by one."""
    return record(tx, new) if len(new) == 1 else _record_by(_record_all, tx, new)


def _record_by(how: _How, tx: Transaction, new: Sequence[NewEvent]) -> list[Recorded | Exception]:
    digester = Digester(tx)
    arrivals = [
        _Arrival(place, digester.digest(event.project, event.source, event.key), event)
        for place, event in enumerate(new)
    ]
    # Two batches that hold the same keys must lock them in the same order, or Postgres finds a deadlock.
    arrivals.sort(key=lambda arrival: arrival.digest)
    answers = how(tx, arrivals)
    if any(
        isinstance(answer, Recorded) and answer.run_ids and not answer.duplicate
        for answer in answers.values()
    ):
        tx.notify("queued")
    return [answers[place] for place in range(len(new))]


def _record_guarded(tx: Transaction, arrivals: Sequence[_Arrival]) -> _Answers:
    """Record all at once; when values are at fault, halve until only the bad ones are left out."""
    if not arrivals:
        return {}
    try:
        with tx.savepoint():
            return _record_all(tx, arrivals)
    except Exception as error:
        reason = fault_of_values(error)
        if reason is None:
            raise
        if len(arrivals) == 1:
            return {arrivals[0].place: reason}
    middle = len(arrivals) // 2
    return {**_record_guarded(tx, arrivals[:middle]), **_record_guarded(tx, arrivals[middle:])}


def _record_all(tx: Transaction, arrivals: Sequence[_Arrival]) -> _Answers:
    firsts: dict[bytes, _Arrival] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.digest, arrival)
    keys = [
        {"digest": digest, "event_id": arrival.event.id, "first_seen": arrival.event.received_at}
        for digest, arrival in firsts.items()
    ]
    inserted = _insert_keys(tx.connection, keys)
    fresh = [firsts[bytes(row.digest)] for row in inserted]
    fresh.sort(key=lambda arrival: arrival.place)
    inserts = Together(tx.connection)
    _add_events(inserts, [arrival.event for arrival in fresh])
    new = {arrival.place for arrival in fresh}
    repeats = [arrival for arrival in arrivals if arrival.place not in new]
    answers: dict[int, Recorded | Exception] = {arrival.place: _first(arrival.event) for arrival in fresh}
    if repeats:
        inserts.send()  # their first may be among them
        answers.update(_repeats(tx, repeats))
    inserts.add(_delivery_rows, [_delivery_row(one.event, answers[one.place]) for one in arrivals])
    inserts.send()
    return answers


def _add_events(inserts: Together, new: Sequence[NewEvent]) -> None:
    inserts.add(_event_rows, [_event_row(event) for event in new])
    inserts.add(_matches, [row for event in new for row in _match_rows(event)])
    add_runs(
        inserts,
        [(match.run, event.received_at) for event in new for match in event.matches if match.run is not None],
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
    }


def _match_rows(event: NewEvent) -> list[dict[str, Any]]:
    return [
        {
            "event_id": event.id,
            "project": event.project,
            "pipeline": match.pipeline,
            "trigger": match.trigger,
            "position": position,
            "outcome": match.outcome.value,
            "reason": match.reason,
            "run_id": match.run.id if match.run else None,
        }
        for position, match in enumerate(event.matches)
    ]


def _first(event: NewEvent) -> Recorded:
    run_ids = tuple(match.run.id for match in event.matches if match.run)
    return Recorded(event.id, event.outcome, run_ids, duplicate=False, reason=event.reason)


def _repeats(tx: Transaction, repeats: Sequence[_Arrival]) -> dict[int, Recorded]:
    """Answer events whose key is taken with what became of the original, which is committed by now."""
    if not repeats:
        return {}
    digests = list({arrival.digest for arrival in repeats})
    originals = {bytes(row.digest): row for row in tx.connection.execute(_ORIGINALS, {"digests": digests})}
    run_ids = _run_ids(tx, [row.event_id for row in originals.values() if row.run_ids is None])
    answers = {}
    for arrival in repeats:
        row = originals[arrival.digest]
        answers[arrival.place] = Recorded(
            row.event_id,
            Outcome(row.outcome),
            tuple(row.run_ids or run_ids.get(row.event_id, ())),
            duplicate=True,
            reason=row.reason,
        )
    return answers


def _run_ids(tx: Transaction, event_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for event_id, run_id in tx.connection.execute(_MATCHED_RUNS, {"event_ids": list(event_ids)}):
        found[event_id].append(run_id)
    return found


def _delivery_row(event: NewEvent, answer: Recorded | Exception) -> dict[str, Any]:
    assert isinstance(answer, Recorded)
    verdict = Verdict.DUPLICATE if answer.duplicate else Verdict.ACCEPTED
    at: datetime = event.received_at
    return {
        "event_id": answer.event_id,
        "verdict": verdict.value,
        "reason": None if answer.duplicate else event.reason,
        "at": at,
        "road": event.road,
    }

"""Records events: each once for ever, with what every trigger made of it, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from service.store.admitting import Admission
from service.store.bulk import BulkInsert, Together
from service.store.database import Transaction
from service.store.erasure import forget
from service.store.event_reading import get, listing, raw_of
from service.store.event_rows import Arrival, add_events
from service.store.faults import fault_of_values
from service.store.held import held, release_held
from service.store.keys import Digester
from service.store.repeats import answer_repeats, lock_originals
from service.store.tables import deliveries, event_keys
from service.store.values import NewEvent, Recorded, Verdict

__all__ = ["forget", "get", "held", "listing", "raw_of", "record", "record_shared", "release_held"]

_insert_keys = BulkInsert(
    event_keys, "digest", "event_id", "first_seen", tail="ON CONFLICT DO NOTHING RETURNING digest"
)
_delivery_rows = BulkInsert(deliveries, "event_id", "verdict", "reason", "at", "road")

_Answers = dict[int, Recorded | Exception]  # by place
_How = Callable[[Transaction, Sequence[Arrival]], _Answers]


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
        Arrival(place, digester.digest(event.project, event.source, event.key), event)
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


def _record_guarded(tx: Transaction, arrivals: Sequence[Arrival]) -> _Answers:
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


def _record_all(tx: Transaction, arrivals: Sequence[Arrival]) -> _Answers:
    firsts: dict[bytes, Arrival] = {}
    for arrival in arrivals:
        firsts.setdefault(arrival.digest, arrival)
    keys = [
        {"digest": digest, "event_id": arrival.event.id, "first_seen": arrival.event.received_at}
        for digest, arrival in firsts.items()
    ]
    inserted = _insert_keys(tx.connection, keys)
    fresh = [firsts[bytes(row.digest)] for row in inserted]
    fresh.sort(key=lambda arrival: arrival.place)
    new = {arrival.place for arrival in fresh}
    repeats = [arrival for arrival in arrivals if arrival.place not in new]
    lock_originals(tx, repeats)
    admission = Admission(tx, [match for arrival in arrivals for match in arrival.event.matches])
    if admission.is_needed:
        fresh = [replace(arrival, event=admission.event(arrival.event)) for arrival in fresh]
    inserts = Together(tx.connection)
    add_events(inserts, [arrival.event for arrival in fresh])
    answers: dict[int, Recorded | Exception] = {arrival.place: _first(arrival.event) for arrival in fresh}
    if repeats:
        inserts.send()  # their first may be among them
        answers.update(answer_repeats(tx, repeats, admission))
    inserts.add(_delivery_rows, [_delivery_row(one.event, answers[one.place]) for one in fresh + repeats])
    inserts.send()
    admission.finish()
    return answers


def _first(event: NewEvent) -> Recorded:
    run_ids = tuple(match.run.id for match in event.matches if match.run)
    return Recorded(event.id, event.outcome, run_ids, duplicate=False, reason=event.reason)


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

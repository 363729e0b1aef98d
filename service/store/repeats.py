"""Events whose key is known: what became of the first, and what a further road adds to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from service.store.admitting import Admission
from service.store.bulk import Together
from service.store.database import Transaction
from service.store.event_rows import Arrival, add_events, add_matches
from service.store.outcomes import settle_outcomes
from service.store.tables import event_keys, events, matches
from service.store.values import NewEvent, NewMatch, Outcome, Recorded

_DIGESTS: Any = bindparam("digests", expanding=True)
_ORIGINALS = (
    select(
        event_keys.c.digest,
        event_keys.c.event_id,
        event_keys.c.run_ids,
        event_keys.c.triggers,
        events.c.id.label("stored"),
        events.c.payload_expired,
        func.coalesce(events.c.outcome, event_keys.c.outcome).label("outcome"),
        events.c.reason,
    )
    .select_from(event_keys.outerjoin(events, events.c.id == event_keys.c.event_id))
    .where(event_keys.c.digest.in_(_DIGESTS))
)
_LOCK: Select[Any] = (
    select(event_keys.c.digest)
    .where(event_keys.c.digest.in_(_DIGESTS))
    .order_by(event_keys.c.digest)
    .with_for_update()
)
_MATCHES = (
    select(matches.c.event_id, matches.c.pipeline, matches.c.trigger, matches.c.run_id)
    .where(matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
    .order_by(matches.c.event_id, matches.c.position)
)

# Retention took the payload; a trigger that is new needs it again.
_REFILL = (
    update(events)
    .where(events.c.id == bindparam("of_event"))
    .values(
        payload_expired=False,
        data=bindparam("new_data"),
        raw=bindparam("new_raw"),
        headers=bindparam("new_headers"),
    )
)


@dataclass(slots=True)
class _Original:
    """What is known of the first event of a key."""

    event_id: str
    outcome: Outcome
    reason: str | None
    is_stored: bool  # false once retention has taken the event
    has_payload: bool
    run_ids: list[str] = field(default_factory=list)
    triggers: set[tuple[str, str]] = field(default_factory=set)


def lock_originals(tx: Transaction, repeats: Sequence[Arrival]) -> None:
    """Lock what repeats may add to: two roads may bring the same match at the same moment."""
    digests = sorted({repeat.digest for repeat in _extending(repeats)})
    if digests:
        tx.connection.execute(_LOCK, {"digests": digests}).all()


def answer_repeats(tx: Transaction, repeats: Sequence[Arrival], admission: Admission) -> dict[int, Recorded]:
    """Answer each by its place. The originals are in the store by now, committed or of this transaction.

    They are locked where repeats may add to them.
    """
    extended = _extend(tx, _extending(repeats), admission)
    originals = _originals(tx, repeats)
    return {
        repeat.place: Recorded(
            original.event_id,
            original.outcome,
            tuple(original.run_ids),
            duplicate=repeat.place not in extended,
            reason=original.reason,
        )
        for repeat in repeats
        for original in [originals[repeat.digest]]
    }


def _extending(repeats: Sequence[Arrival]) -> list[Arrival]:
    return [repeat for repeat in repeats if repeat.event.shared and repeat.event.matches]


def _extend(tx: Transaction, repeats: Sequence[Arrival], admission: Admission) -> set[int]:
    """Add the matches that the originals lack, and return the places of the repeats that brought some.

    An object may be reported by a road that concerns more triggers than the first did; each takes it once.
    """
    if not repeats:
        return set()
    originals = _originals(tx, repeats)
    inserts = Together(tx.connection)
    extended: set[int] = set()
    for repeat in sorted(repeats, key=lambda repeat: repeat.place):
        original = originals[repeat.digest]
        missing = [
            match
            for match in repeat.event.matches
            if (match.pipeline, match.trigger) not in original.triggers
        ]
        if missing:
            extended.add(repeat.place)
            _add(tx, inserts, repeat.event, admission.matches(missing), original)
    inserts.send()
    settle_outcomes(tx, sorted({originals[one.digest].event_id for one in repeats if one.place in extended}))
    return extended


def _add(
    tx: Transaction, inserts: Together, event: NewEvent, missing: Sequence[NewMatch], original: _Original
) -> None:
    event = replace(event, id=original.event_id, matches=())
    if not original.is_stored:
        add_events(inserts, [event])
    elif not original.has_payload:
        payload = {"new_data": event.data, "new_raw": event.raw, "new_headers": dict(event.headers) or None}
        tx.connection.execute(_REFILL, {"of_event": event.id} | payload)
    original.is_stored = original.has_payload = True
    of_original = [
        replace(match, run=replace(match.run, event_id=original.event_id)) if match.run else match
        for match in missing
    ]
    add_matches(inserts, [(event, len(original.triggers), of_original)])
    original.triggers |= {(match.pipeline, match.trigger) for match in missing}


def _originals(tx: Transaction, repeats: Sequence[Arrival]) -> Mapping[bytes, _Original]:
    digests = sorted({repeat.digest for repeat in repeats})
    found: dict[bytes, _Original] = {}
    for row in tx.connection.execute(_ORIGINALS, {"digests": digests}):
        found[bytes(row.digest)] = _Original(
            row.event_id,
            Outcome(row.outcome),
            row.reason,
            row.stored is not None,
            row.stored is not None and not row.payload_expired,
            list(row.run_ids or ()),
            {(pipeline, trigger) for pipeline, trigger in row.triggers or ()},
        )
    by_event: dict[str, list[_Original]] = defaultdict(list)
    for original in found.values():
        by_event[original.event_id].append(original)
    for event_id, pipeline, trigger, run_id in tx.connection.execute(_MATCHES, {"event_ids": list(by_event)}):
        for original in by_event[event_id]:
            original.triggers.add((pipeline, trigger))
            if run_id is not None:
                original.run_ids.append(run_id)
    return found

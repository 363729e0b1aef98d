"""An event's own outcome, after one of its matches has changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from service.store.database import Transaction
from service.store.tables import events, matches
from service.store.values import OUTCOME_ORDER, Outcome

_OUTCOMES = (
    select(matches.c.event_id, matches.c.outcome, matches.c.reason)
    .where(matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
    .order_by(matches.c.event_id, matches.c.position)
)
_LOCK = (
    select(events.c.id)
    .where(events.c.id.in_(bindparam("event_ids", expanding=True)))
    .order_by(events.c.id)
    .with_for_update()
)
_EVENT = (
    update(events)
    .where(events.c.id == bindparam("of_event"))
    .values(outcome=bindparam("new_outcome"), reason=bindparam("why"))
)


def first_outcome(matched: Sequence[tuple[str, str | None]]) -> tuple[Outcome, str | None]:
    """Return an event's own outcome, with its reason, of the outcomes of its matches."""
    reasons: dict[str, str | None] = {}
    for outcome, reason in matched:
        reasons.setdefault(outcome, reason)
    first = next(known for known in OUTCOME_ORDER if known.value in reasons)
    return first, reasons[first.value]


def settle_outcomes(tx: Transaction, event_ids: Sequence[str]) -> None:
    """Give each event the first outcome in order among its matches, and that match's reason."""
    # Two triggers may end their matches of an event at once: whoever is second has to see the first.
    tx.connection.execute(_LOCK, {"event_ids": sorted(event_ids)}).all()
    found: dict[str, list[tuple[str, str | None]]] = {event_id: [] for event_id in event_ids}
    for event_id, outcome, reason in tx.connection.execute(_OUTCOMES, {"event_ids": list(event_ids)}):
        found[event_id].append((outcome, reason))
    rows = []
    for event_id, matched in sorted(found.items()):
        first, reason = first_outcome(matched)
        rows.append({"of_event": event_id, "new_outcome": first.value, "why": reason})
    if rows:
        tx.connection.execute(_EVENT, rows)

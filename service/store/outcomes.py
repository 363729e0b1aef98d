"""An event's own outcome, after one of its matches has changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select, update

from service.store.database import Transaction
from service.store.tables import events, matches
from service.store.values import OUTCOME_ORDER

_OUTCOMES = (
    select(matches.c.event_id, matches.c.outcome, matches.c.reason)
    .where(matches.c.event_id.in_(bindparam("event_ids", expanding=True)))
    .order_by(matches.c.event_id, matches.c.position)
)
_EVENT = (
    update(events)
    .where(events.c.id == bindparam("of_event"))
    .values(outcome=bindparam("new_outcome"), reason=bindparam("why"))
)


def settle_outcomes(tx: Transaction, event_ids: Sequence[str]) -> None:
    """Give each event the first outcome in order among its matches, and that match's reason."""
    found: dict[str, dict[str, str | None]] = {event_id: {} for event_id in event_ids}
    for event_id, outcome, reason in tx.connection.execute(_OUTCOMES, {"event_ids": list(event_ids)}):
        found[event_id].setdefault(outcome, reason)
    rows = []
    for event_id, reasons in sorted(found.items()):
        outcome = next(known.value for known in OUTCOME_ORDER if known.value in reasons)
        rows.append({"of_event": event_id, "new_outcome": outcome, "why": reasons[outcome]})
    if rows:
        tx.connection.execute(_EVENT, rows)

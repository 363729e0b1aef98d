"""Forgets an event at a person's wish: its data, its key, and what its runs kept of it."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, update

from service.errors import NotFound, WrongState
from service.store.database import Transaction
from service.store.tables import block_runs, deliveries, event_keys, events, matches, run_logs, runs
from service.store.values import RunState

_EVENT = select(events.c.id).where(events.c.id == bindparam("the_event")).with_for_update()
_RUNS = select(runs.c.id, runs.c.state).where(runs.c.event_id == bindparam("the_event")).with_for_update()
_ERASE = (
    delete(deliveries).where(deliveries.c.event_id == bindparam("the_event")),
    delete(matches).where(matches.c.event_id == bindparam("the_event")),
    delete(event_keys).where(event_keys.c.event_id == bindparam("the_event")),
    delete(events).where(events.c.id == bindparam("the_event")),
)
_EMPTY_RUNS = (
    update(runs)
    .where(runs.c.event_id == bindparam("the_event"))
    .values(variables={}, error=None, event_id=None)
)
_EMPTY_BLOCKS = (
    update(block_runs)
    .where(block_runs.c.run_id.in_(bindparam("run_ids", expanding=True)))
    .values(checkpoint=None, error=None)
)
_DELETE_LOGS = delete(run_logs).where(run_logs.c.run_id.in_(bindparam("run_ids", expanding=True)))


def forget(tx: Transaction, event_id: str) -> tuple[str, ...]:
    """Erase an event; the same delivery would be new again. Return its runs, whose checkpoint files may go.

    The runs stay as facts, without variables, logs and errors. Raises NotFound, or WrongState while one is
    open.
    """
    if tx.connection.execute(_EVENT, {"the_event": event_id}).one_or_none() is None:
        raise NotFound("event", event_id)
    found = tx.connection.execute(_RUNS, {"the_event": event_id}).all()
    for run_id, state in found:
        if not RunState(state).is_final:
            raise WrongState("run", run_id, state, "forget the event of")
    run_ids = tuple(run_id for run_id, _ in found)
    for statement in (*_ERASE, _EMPTY_RUNS):
        tx.connection.execute(statement, {"the_event": event_id})
    if run_ids:
        for statement in (_EMPTY_BLOCKS, _DELETE_LOGS):
            tx.connection.execute(statement, {"run_ids": run_ids})
    return run_ids

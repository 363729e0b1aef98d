"""Forgets an event at a person's wish: its data, its key, its replays, and what their runs kept of it."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, delete, or_, select, update

from service.errors import NotFound, WrongState
from service.store.database import Transaction
from service.store.tables import block_runs, deliveries, event_keys, events, matches, run_logs, runs
from service.store.values import RunState

_EVENT_IDS: BindParameter[str] = bindparam("event_ids", expanding=True)
_RUN_IDS: BindParameter[str] = bindparam("run_ids", expanding=True)
_EVENT = select(events.c.id).where(events.c.id == bindparam("the_event")).with_for_update()
_REPLAYS = select(events.c.id).where(events.c.replay_of.in_(_EVENT_IDS)).with_for_update()
_MATCHED = select(matches.c.run_id).where(matches.c.event_id.in_(_EVENT_IDS), matches.c.run_id.is_not(None))
# A run that took the event within a batch has the whole batch: it is emptied like one of its own.
_RUNS = (
    select(runs.c.id, runs.c.state)
    .where(or_(runs.c.event_id.in_(_EVENT_IDS), runs.c.id.in_(_MATCHED)))
    .order_by(runs.c.id)
    .with_for_update()
)
_ERASE = (
    delete(deliveries).where(deliveries.c.event_id.in_(_EVENT_IDS)),
    delete(matches).where(matches.c.event_id.in_(_EVENT_IDS)),
    delete(event_keys).where(event_keys.c.event_id.in_(_EVENT_IDS)),
    delete(events).where(events.c.id.in_(_EVENT_IDS)),
)
_OF_RUNS = (
    update(runs)
    .where(runs.c.id.in_(_RUN_IDS))
    .values(variables={}, error=None, event_id=None, checkpoints_deleted=True),
    update(block_runs)
    .where(block_runs.c.run_id.in_(_RUN_IDS), block_runs.c.checkpoint.is_not(None))
    # Volatile, so that a retry runs the block again and does not look for what is gone.
    .values(checkpoint=None, volatile=True),
    update(block_runs).where(block_runs.c.run_id.in_(_RUN_IDS)).values(error=None),
    delete(run_logs).where(run_logs.c.run_id.in_(_RUN_IDS)),
)


def forget(tx: Transaction, event_id: str) -> tuple[str, ...]:
    """Erase an event and its replays; the same delivery would be new again. Return the runs they had.

    The files of their checkpoints must be out of the way when the transaction ends. The runs stay as facts,
    without variables, logs and errors. Raises NotFound, or WrongState while one of them is open.
    """
    if tx.connection.execute(_EVENT, {"the_event": event_id}).one_or_none() is None:
        raise NotFound("event", event_id)
    values = {"event_ids": _with_replays(tx, event_id)}
    found = tx.connection.execute(_RUNS, values).all()
    for run_id, state in found:
        if not RunState(state).is_final:
            raise WrongState("run", run_id, state, "forget the event of")
    for erase in _ERASE:
        tx.connection.execute(erase, values)
    run_ids = tuple(run_id for run_id, _ in found)
    if run_ids:
        for empty in _OF_RUNS:
            tx.connection.execute(empty, {"run_ids": run_ids})
    return run_ids


def _with_replays(tx: Transaction, event_id: str) -> list[str]:
    """Return the event, its replays, and the replays of those."""
    found = [event_id]
    newest = found
    while newest:
        newest = list(tx.connection.execute(_REPLAYS, {"event_ids": newest}).scalars())
        found = found + newest
    return found

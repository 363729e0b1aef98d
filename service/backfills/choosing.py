"""Which stored events a backfill is over, and what has become of each."""

from __future__ import annotations

from pipelines.model import TriggerType
from service.backfills.judging import Found, Status, judge_event
from service.backfills.request import Events, Request
from service.backfills.slots import MOST_SLOTS, SlotError
from service.matching.planning import event_of
from service.matching.replaying import Triggers, concerned
from service.matching.triggers import CompiledTrigger
from service.store import backfill_slots
from service.store.event_choice import Chosen, concerning
from service.store.session import Connection
from service.store.values import Match, Outcome, StoredEvent

_NEVER_HAD: tuple[Outcome | None, str | None] = (None, None)
OBJECT_TYPES = ("object.finalized", "object.deleted", "object.archived", "object.updated")


def events_of(
    connection: Connection, request: Request, compiled: CompiledTrigger, triggers: Triggers
) -> list[tuple[str, Found]]:
    """Return the events that concern the trigger, oldest first, with what it made of them last.

    Raises SlotError when there are too many.
    """
    assert isinstance(request.over, Events)
    over = request.over
    chosen = Chosen(
        *compiled.state_key, _types(compiled, triggers), over.outcome, since=over.since, until=over.until
    )
    found = concerning(connection, chosen, limit=MOST_SLOTS + 1)
    if len(found) > MOST_SLOTS:
        raise SlotError(f"more than {MOST_SLOTS} events fit; narrow them by since, until and outcome")
    wanted = [
        (event, has_expired)
        for event, has_expired in found
        if _match(event, compiled) is not None or _takes(event, compiled, triggers)
    ]
    return _judged(connection, wanted, compiled, triggers)


def _judged(
    connection: Connection,
    wanted: list[tuple[StoredEvent, bool]],
    compiled: CompiledTrigger,
    triggers: Triggers,
) -> list[tuple[str, Found]]:
    if not wanted:
        return []
    waiting = backfill_slots.events_waiting(connection, *compiled.state_key)
    newest: dict[str, tuple[Outcome | None, str | None]] = dict(
        backfill_slots.replayed(connection, *compiled.state_key, since_id=wanted[0][0].id)
    )
    for event, _ in wanted:
        match = _match(event, compiled)
        if event.id not in newest and match is not None:
            newest[event.id] = match.outcome, match.run_id
    run_ids = [run_id for event, _ in wanted if (run_id := newest.get(event.id, _NEVER_HAD)[1])]
    states = backfill_slots.run_states(connection, run_ids)
    judged = []
    for event, has_expired in wanted:
        if has_expired:
            found = Found(Status.IMPOSSIBLE, "its payload has expired")
        elif not _takes(event, compiled, triggers):
            found = Found(Status.IMPOSSIBLE, "the trigger does not take such events any more")
        elif event.id in waiting:
            found = Found(Status.IN_FLIGHT, f"it waits in backfill {waiting[event.id]}")
        else:
            outcome, run_id = newest.get(event.id, _NEVER_HAD)
            found = judge_event(outcome, run_id, states)
        judged.append((event.id, found))
    return judged


def _match(event: StoredEvent, compiled: CompiledTrigger) -> Match | None:
    key = (compiled.pipeline.name, compiled.name)
    return next((match for match in event.matches if (match.pipeline, match.trigger) == key), None)


def _takes(event: StoredEvent, compiled: CompiledTrigger, triggers: Triggers) -> bool:
    return any(one.state_key == compiled.state_key for one in concerned(event, event_of(event), triggers))


def _types(compiled: CompiledTrigger, triggers: Triggers) -> tuple[str, ...]:
    """Return the types of events that the trigger may want without having had them."""
    if compiled.trigger.type is TriggerType.EVENT:
        return (str(compiled.trigger.spec.get("event")),)
    if any(one.state_key == compiled.state_key for one, _ in triggers.listeners.watching):
        return OBJECT_TYPES
    return ()

"""Events that wait for a paused trigger, and how they go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Select, bindparam, func, literal_column, select, update

from service.store.admitting import Admission
from service.store.database import Transaction
from service.store.event_reading import select_events, with_matches
from service.store.outcomes import settle_outcomes
from service.store.run_rows import insert_runs
from service.store.statements import AnyRow
from service.store.tables import events, matches
from service.store.triggers import TriggerId
from service.store.values import NewMatch, Outcome, StoredEvent

Decide = Callable[[StoredEvent], NewMatch]

_DECIDED = (
    update(matches)
    .where(
        matches.c.event_id == bindparam("of_event"),
        matches.c.pipeline == bindparam("of_pipeline"),
        matches.c.trigger == bindparam("of_trigger"),
    )
    .values(
        outcome=bindparam("new_outcome"),
        reason=bindparam("why"),
        run_id=bindparam("run"),
        settle_group=bindparam("group"),
    )
)
_HOLDING = (
    select(matches.c.project, matches.c.pipeline, matches.c.trigger)
    .where(
        matches.c.outcome == literal_column(f"'{Outcome.HELD.value}'"),  # spelled out for the partial index
        matches.c.settle_group.is_(None),
    )
    .distinct()
)
_COUNTS = (
    select(matches.c.pipeline, matches.c.trigger, func.count())
    .where(
        matches.c.project == bindparam("in_project"),
        matches.c.outcome == literal_column(f"'{Outcome.HELD.value}'"),
    )
    .group_by(matches.c.pipeline, matches.c.trigger)
)


def held(
    connection: Connection, project: str, pipeline: str, trigger: str, *, limit: int = 100
) -> list[StoredEvent]:
    """Return the oldest events that the trigger holds because it is paused."""
    rows = connection.execute(_held(project, pipeline, trigger).limit(limit)).all()
    return with_matches(connection, rows)


def holding(connection: Connection) -> frozenset[TriggerId]:
    """Return the triggers that hold events."""
    return frozenset((project, pipeline, name) for project, pipeline, name in connection.execute(_HOLDING))


def release_held(
    tx: Transaction,
    project: str,
    pipeline: str,
    trigger: str,
    decide: Decide,
    *,
    limit: int = 100,
    newest_first: bool = False,
) -> int:
    """Decide anew on the oldest held events, enqueue their runs, and return how many there were.

    Call it until it returns 0. `decide` may answer HELD only for an event that settles from then on. Notifies
    "queued" when a run was made.
    """
    query = _held(project, pipeline, trigger, newest_first=newest_first).limit(limit)
    rows = _locked(tx, query)
    events_held = with_matches(tx.connection, rows)
    decided = [decide(event) for event in events_held]
    if not decided:
        return 0
    admission = Admission(tx, decided)
    released = list(zip(events_held, admission.matches(decided), strict=True))
    tx.connection.execute(_DECIDED, [_decision(event, match) for event, match in released])
    new = [(match.run, tx.now) for _, match in released if match.run is not None]
    insert_runs(tx.connection, new)
    admission.finish()
    settle_outcomes(tx, [event.id for event, _ in released])
    if new:
        tx.notify("queued")
    return len(released)


def held_counts(connection: Connection, project: str) -> dict[tuple[str, str], int]:
    """Return how many events each trigger of the project holds, by pipeline and name; settling ones, too."""
    rows = connection.execute(_COUNTS, {"in_project": project})
    return {(pipeline, trigger): count for pipeline, trigger, count in rows}


def _held(
    project: str, pipeline: str, trigger: str, *, newest_first: bool = False
) -> Select[tuple[object, ...]]:
    return (
        select_events()
        .join(matches, matches.c.event_id == events.c.id)
        .where(
            matches.c.project == project,
            matches.c.pipeline == pipeline,
            matches.c.trigger == trigger,
            matches.c.outcome == Outcome.HELD.value,
            matches.c.settle_group.is_(None),
        )
        .order_by(events.c.id.desc() if newest_first else events.c.id)
    )


def _locked(tx: Transaction, query: Select[tuple[object, ...]]) -> Sequence[AnyRow]:
    # Two who resume at once must not both make the run of an event.
    return tx.connection.execute(query.with_for_update(of=matches, skip_locked=True)).all()


def _decision(event: StoredEvent, match: NewMatch) -> dict[str, object]:
    return {
        "of_event": event.id,
        "of_pipeline": match.pipeline,
        "of_trigger": match.trigger,
        "new_outcome": match.outcome.value,
        "why": match.reason,
        "run": match.run.id if match.run else None,
        "group": match.settle_group,
    }

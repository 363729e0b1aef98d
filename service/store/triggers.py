"""What the store knows of triggers: their own tokens, their numbers in Mage's addresses, who is paused."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, func, or_, select, update

from service.store.database import Transaction
from service.store.statements import insert_if_absent
from service.store.tables import runs, triggers
from service.store.values import RunState

TriggerId: TypeAlias = tuple[str, str, str]  # (project, pipeline, trigger)

_COLUMNS = (
    triggers.c.project,
    triggers.c.pipeline,
    triggers.c.name,
    triggers.c.number,
    triggers.c.token,
    triggers.c.created_at,
    triggers.c.paused_at,
)
_THIS = (
    (triggers.c.project == bindparam("in_project"))
    & (triggers.c.pipeline == bindparam("in_pipeline"))
    & (triggers.c.name == bindparam("named"))
)
_ONE = select(*_COLUMNS).where(_THIS)
_PAUSE = update(triggers).where(_THIS, triggers.c.paused_at.is_(None)).values(paused_at=bindparam("at"))
_RESUME = update(triggers).where(_THIS, triggers.c.paused_at.is_not(None)).values(paused_at=None)
_PAUSED = select(triggers.c.project, triggers.c.pipeline, triggers.c.name).where(
    triggers.c.paused_at.is_not(None)
)
_INSERT = insert_if_absent(triggers)
_WAITING = (
    select(runs.c.project, runs.c.pipeline, runs.c.trigger, func.count())
    .where(
        or_(
            runs.c.state == RunState.QUEUED,
            runs.c.blocked_by.is_not(None),
            (runs.c.state == RunState.WAITING) & runs.c.started_at.is_(None),  # for its window
        ),
        runs.c.trigger.in_(bindparam("names", expanding=True)),
    )
    .group_by(runs.c.project, runs.c.pipeline, runs.c.trigger)
)


@dataclass(frozen=True, slots=True)
class TriggerState:
    """A trigger as it was seen. Its token is a secret: it is in no repr."""

    project: str
    pipeline: str
    name: str
    number: int  # the id in Mage's webhook addresses
    token: str
    created_at: datetime
    paused_at: datetime | None

    def __repr__(self) -> str:
        return f"TriggerState({self.project}/{self.pipeline}/{self.name}, paused_at={self.paused_at})"


def see(tx: Transaction, project: str, pipeline: str, trigger: str) -> TriggerState:
    """Return the trigger's state; at first sight it gets its token and its number."""
    names = _names(project, pipeline, trigger)
    row = tx.connection.execute(_ONE, names).one_or_none()
    if row is None:
        new = {
            "project": project,
            "pipeline": pipeline,
            "name": trigger,
            "token": secrets.token_urlsafe(32),
            "created_at": tx.now,
        }
        tx.connection.execute(_INSERT[tx.database.dialect], new)
        row = tx.connection.execute(_ONE, names).one()
    return TriggerState(*row)


def token_of(tx: Transaction, project: str, pipeline: str, trigger: str) -> str:
    """Return the trigger's own token, made at first sight and kept for ever."""
    return see(tx, project, pipeline, trigger).token


def states(connection: Connection, project: str | None = None) -> list[TriggerState]:
    """Return the triggers that were ever seen, by name; also those that no file declares any more."""
    query = select(*_COLUMNS).order_by(triggers.c.project, triggers.c.pipeline, triggers.c.name)
    if project is not None:
        query = query.where(triggers.c.project == project)
    return [TriggerState(*row) for row in connection.execute(query)]


def find_by_token(connection: Connection, token: str) -> TriggerState | None:
    """Return the trigger that has this token."""
    row = connection.execute(select(*_COLUMNS).where(triggers.c.token == token)).one_or_none()
    return None if row is None else TriggerState(*row)


def paused(connection: Connection) -> frozenset[TriggerId]:
    return frozenset((project, pipeline, name) for project, pipeline, name in connection.execute(_PAUSED))


def queued_runs(connection: Connection, wanted: Collection[TriggerId]) -> Mapping[TriggerId, int]:
    """Count the runs of each wanted trigger that nobody executes yet, those held back by limits included."""
    names = sorted({name for _, _, name in wanted})
    counted = dict.fromkeys(wanted, 0)
    if names:
        for project, pipeline, name, number in connection.execute(_WAITING, {"names": names}):
            if (project, pipeline, name) in counted:
                counted[project, pipeline, name] = number
    return counted


def pause(tx: Transaction, project: str, pipeline: str, trigger: str) -> bool:
    """Hold the trigger's events from now on. False when it was paused already. Notifies "triggers"."""
    see(tx, project, pipeline, trigger)
    changed = tx.connection.execute(_PAUSE, {**_names(project, pipeline, trigger), "at": tx.now}).rowcount
    return _told(tx, changed)


def resume(tx: Transaction, project: str, pipeline: str, trigger: str) -> bool:
    """Let new events through again; those that are held stay so until they are released."""
    changed = tx.connection.execute(_RESUME, _names(project, pipeline, trigger)).rowcount
    return _told(tx, changed)


def _told(tx: Transaction, changed: int) -> bool:
    if changed:
        tx.notify("triggers")
    return bool(changed)


def _names(project: str, pipeline: str, trigger: str) -> dict[str, Any]:
    return {"in_project": project, "in_pipeline": pipeline, "named": trigger}

"""Erases an event at a person's wish, with what its runs left on disk."""

from __future__ import annotations

from service.maintenance import delete_set_aside, set_aside
from service.runtime import Runtime
from service.store import erasure
from service.store.session import Commit, Transaction


def forget_event(runtime: Runtime, event_id: str) -> tuple[str, ...]:
    """Erase the event, its replays, and what their runs kept of them; return the runs.

    Raises NotFound, or WrongState while one of the runs is open.
    """
    checkpoints = runtime.settings.checkpoints

    def forget(tx: Transaction) -> tuple[str, ...]:
        run_ids = erasure.forget(tx, event_id)
        set_aside(checkpoints, run_ids)
        return run_ids

    run_ids = runtime.database.write(Commit.FORGET, forget)
    delete_set_aside(checkpoints)
    return run_ids

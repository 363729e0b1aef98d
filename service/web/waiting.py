"""`?wait=`: holds a request until its run is finished, without a query in a loop."""

from __future__ import annotations

import threading
import time

import structlog

from service.errors import StoreUnavailable
from service.store import runs
from service.store.session import Database
from service.store.values import Run
from service.store.wakeups import WakeUps

logger = structlog.get_logger(__name__)

LOST_WAKEUP_SECONDS = 1.0  # how often the run is looked at when nobody says anything


class RunWaiters:
    """At most `limit` requests wait at once: each holds a thread that could take webhooks."""

    def __init__(self, database: Database, wakeups: WakeUps, *, limit: int) -> None:
        self._database = database
        self._wakeups = wakeups
        self._places = threading.BoundedSemaphore(limit) if limit else None

    def wait(self, run_id: str, seconds: float) -> Run | None:
        """Return the run once it is final; None when that takes longer, or when too many wait already."""
        if seconds <= 0 or self._places is None or not self._places.acquire(blocking=False):
            return None
        try:
            return self._wait(run_id, time.monotonic() + seconds)
        except StoreUnavailable as error:
            # The event is safe; that nobody can look at its run now must not turn the answer into a failure.
            logger.warning("could not wait for a run", run_id=run_id, error=str(error))
            return None
        finally:
            self._places.release()

    def _wait(self, run_id: str, deadline: float) -> Run | None:
        woken = threading.Event()
        topic = f"run:{run_id}"

        def on_wake(heard: str) -> None:
            if heard == topic:
                woken.set()

        # Listening begins before the first look, or a run that ends in between would be missed.
        with self._wakeups.subscribe(on_wake):
            while True:
                run = self._final(run_id)
                left = deadline - time.monotonic()
                if run is not None or left <= 0:
                    return run
                woken.wait(min(left, LOST_WAKEUP_SECONDS))
                woken.clear()

    def _final(self, run_id: str) -> Run | None:
        with self._database.read() as connection:
            run = runs.get(connection, run_id)
        return run if run is not None and run.state.is_final else None

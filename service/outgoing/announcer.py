"""Makes events of the ends of runs, where a trigger waits for them or an address outside wants them.

The event, what it starts, what is sent, and the mark on the run are one commit: each end is announced once,
whatever dies, and by however many engines. Ends that concern nobody are only marked, many at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from pipelines.model import RUN_EVENTS, Address
from service.dispatcher import Dispatcher
from service.errors import StoreError
from service.outgoing.run_events import cloudevent_text, event_source, event_type, run_event
from service.runtime import Runtime
from service.store import announcements, outgoing
from service.store.announcements import End
from service.store.outgoing import NewOutgoing
from service.store.session import Commit, Transaction
from service.store.values import NewEvent, Recorded, Run
from service.store.wakeups import Subscription

logger = structlog.get_logger(__name__)

PAGE = 500
COMPANY = 100
SLOW_SECONDS = 5.0  # a lost wake-up costs so much; so long do ends wait to be marked that concern nobody
_TOPIC_PREFIX = "run:"


@dataclass(frozen=True, slots=True)
class _Announcement:
    """The event of an end, and for whom it is beside the triggers."""

    event: NewEvent
    outgoing: tuple[NewOutgoing, ...]


class Announcer:
    """A thread of the engine that sleeps until a run ends."""

    def __init__(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        self._runtime = runtime
        self._dispatcher = dispatcher
        self._wake = threading.Event()
        self._stopping = False
        self._is_heeded = True  # somebody waits for ends of runs; known since the last look
        self._subscription: Subscription | None = None
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._subscription = self._runtime.wakeups.subscribe(self._on_topic)
        self._thread.start()

    def stop(self) -> None:
        """Announce what has ended by now, then end."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._subscription is not None:
            self._subscription.close()

    def look_again(self) -> None:
        """Take note that the projects have changed."""
        self._wake.set()

    def announce(self) -> int:
        """Announce every end that is due; return how many events were made."""
        made = 0
        while True:
            ends, wanted = self._due()
            if not ends:
                return made
            planned = {run_id: self._plan(run) for run_id, run in wanted.items()}
            marked = self._runtime.database.write(
                Commit.ANNOUNCE, partial(self._write, ends=ends, planned=planned)
            )
            made += sum(end.run_id in planned for end in marked)
            if len(ends) < PAGE or not marked:
                return made

    def _run(self) -> None:
        is_woken = False
        while True:
            self._wake.clear()
            is_last = self._stopping
            try:
                self._is_heeded = any(self._is_heeded_in(name) for name in self._runtime.projects.names)
                if not is_woken or is_last or self._is_worth_it():
                    self.announce()
            except StoreError as error:
                logger.warning("could not announce ends of runs; it is tried again", error=str(error))
            except Exception:
                logger.exception("could not announce ends of runs; it is tried again")
            if is_last:
                return
            is_woken = self._wake.wait(SLOW_SECONDS)

    def _is_worth_it(self) -> bool:
        """Tell whether a commit is due now: ends that concern nobody can wait for company."""
        ends, wanted = self._due()
        return bool(wanted) or len(ends) >= COMPANY

    def _due(self) -> tuple[Sequence[End], Mapping[str, Run]]:
        """Return ends that are due, and the runs of those that somebody waits for."""
        with self._runtime.database.read() as connection:
            ends = announcements.due(connection, self._runtime.projects.names, limit=PAGE)
            return ends, announcements.whole(connection, [end for end in ends if self._concerns(end)])

    def _on_topic(self, topic: str) -> None:
        if self._is_heeded and topic.startswith(_TOPIC_PREFIX):
            self._wake.set()

    def _is_heeded_in(self, project: str) -> bool:
        is_awaited = any(self._dispatcher.awaits(project, kind) for kind in RUN_EVENTS)
        return is_awaited or bool(self._addresses(project))

    def _concerns(self, end: End) -> bool:
        kind, source = event_type(end.state), event_source(end.pipeline)
        is_sent = any(address.wants(kind, end.pipeline) for address in self._addresses(end.project))
        return is_sent or self._dispatcher.awaits(end.project, kind, source)

    def _addresses(self, project: str) -> Sequence[Address]:
        return self._runtime.projects.get(project).cloudevents.send

    def _plan(self, run: Run) -> _Announcement:
        event = self._dispatcher.plan(run.project, run_event(run), ())
        text = cloudevent_text(event, run.pipeline)
        return _Announcement(
            event,
            tuple(
                NewOutgoing(run.project, address.name, event.id, event.type, text)
                for address in self._addresses(run.project)
                if address.wants(event.type, run.pipeline)
            ),
        )

    def _write(self, tx: Transaction, ends: Sequence[End], planned: Mapping[str, _Announcement]) -> list[End]:
        marked = announcements.mark(tx, ends)
        told = [planned[end.run_id] for end in marked if end.run_id in planned]
        answers = self._dispatcher.record_page(tx, [one.event for one in told])
        for one, answer in zip(told, answers, strict=True):
            if not isinstance(answer, Recorded):
                logger.error("the end of a run cannot be announced", run=one.event.subject, error=str(answer))
            elif not answer.duplicate:
                outgoing.add(tx, one.outgoing)
        return marked

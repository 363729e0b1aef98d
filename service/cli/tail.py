"""`millrace events tail`: new events, as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import click
from rich.text import Text

from service.cli.opened import opened
from service.cli.options import json_option, project_option
from service.cli.output import console, styled, when
from service.runtime import Runtime
from service.store import events as event_store
from service.store.event_reading import EventFilters, following
from service.store.ids import first_id
from service.store.session import Database
from service.store.values import Outcome, StoredEvent
from service.web.schemas import EventJson

LOOK_SECONDS = 0.5  # events without a run wake nobody; those with one are shown at once
# Ids are made before the commit, by several processes: an event may appear behind one that was shown.
LATE = timedelta(seconds=20)
PAGE = 500


@click.command()
@click.option("--pipeline", help="Only events that concern this pipeline.")
@click.option("--trigger", help="Only events that concern this trigger.")
@click.option(
    "--outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Only with this outcome."
)
@click.option("--source", help="Only of this source, e.g. webhook:taxi/from_api.")
@click.option(
    "-n", "last", type=click.IntRange(0, 1000), default=10, show_default=True, help="Begin with the last N."
)
@project_option
@json_option
def tail(
    pipeline: str | None,
    trigger: str | None,
    outcome: str | None,
    source: str | None,
    last: int,
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show events as they come, until Ctrl-C. With --json each line is an object of its own."""
    filters = EventFilters(
        pipeline=pipeline, trigger=trigger, outcome=Outcome(outcome) if outcome else None, source=source
    )
    with opened(projects) as runtime:
        runtime.wakeups.start()
        try:
            for event in _events(runtime, filters, last):
                _show(event, as_json=as_json)
        except KeyboardInterrupt:
            return  # how one leaves it


class Tail:
    """Finds events that it has not handed out yet."""

    def __init__(self, database: Database, filters: EventFilters, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._filters = filters
        self._clock = clock
        self._shown: set[str] = set()
        self._since = first_id(clock() - LATE)

    def begin(self, last: int) -> list[StoredEvent]:
        """Return the last events that are there, oldest first. All others of by now count as shown."""
        with self._database.read() as connection:
            newest = event_store.listing(
                connection,
                pipeline=self._filters.pipeline,
                trigger=self._filters.trigger,
                outcome=self._filters.outcome,
                source=self._filters.source,
                limit=max(last, 1),
            )[:last]
        self._shown |= {event.id for event in newest}
        self.news()
        return newest[::-1]

    def news(self) -> list[StoredEvent]:
        """Return what has come since, oldest first."""
        found = self._look()
        self._since = max(self._since, first_id(self._clock() - LATE))
        fresh = [event for event in found if event.id not in self._shown]
        self._shown = {ident for ident in self._shown if ident > self._since} | {event.id for event in found}
        return fresh

    def _look(self) -> list[StoredEvent]:
        found: list[StoredEvent] = []
        after = self._since
        with self._database.read() as connection:
            while True:
                page = following(connection, self._filters, after_id=after, limit=PAGE)
                found += page
                if len(page) < PAGE:
                    return found
                after = page[-1].id


def _events(runtime: Runtime, filters: EventFilters, last: int) -> Iterator[StoredEvent]:
    news = threading.Event()

    def on_topic(topic: str) -> None:
        if topic == "queued":
            news.set()

    found = Tail(runtime.database, filters, runtime.clock)
    with runtime.wakeups.subscribe(on_topic):
        yield from found.begin(last)
        while True:
            news.wait(LOOK_SECONDS)
            news.clear()
            yield from found.news()


def _show(event: StoredEvent, *, as_json: bool) -> None:
    if as_json:
        click.echo(EventJson.of(event).model_dump_json())
        return
    facts = [", ".join(event.run_ids), event.reason or ""]
    console().print(
        Text.assemble(
            f"{when(event.received_at)}  {event.id}  {event.source}  ",
            styled(event.outcome),
            *(f"  {fact}" for fact in facts if fact),
        )
    )

"""Events: what arrived, and what became of it."""

from __future__ import annotations

from flask import Blueprint
from spectree import SpecTree

from service.store import events
from service.store.sightings import sightings_of
from service.web.api.documentation import answer
from service.web.api.ids import known
from service.web.api.paging import page_of
from service.web.api.queries import EventFilter
from service.web.parts import WebParts
from service.web.problems import not_found
from service.web.schemas import EventJson, EventListJson


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    database = parts.runtime.database

    @api.get("/events")
    @documented.validate(resp=answer(EventListJson), tags=["events"])
    def list_events(query: EventFilter) -> EventListJson:
        """List events, newest first."""
        with database.read() as connection:
            found = events.listing(
                connection,
                project=query.project,
                pipeline=query.pipeline,
                trigger=query.trigger,
                outcome=query.outcome,
                source=query.source,
                since=query.since,
                until=query.until,
                limit=query.limit + 1,
                after_id=query.cursor,
            )
            page, following = page_of(found, query.limit)
            seen = sightings_of(connection, [event.id for event in page])
        return EventListJson(
            items=[EventJson.of(event, sightings=seen.get(event.id, 1)) for event in page], next=following
        )

    @api.get("/events/<event_id>")
    @documented.validate(resp=answer(EventJson), tags=["events"])
    def get_event(event_id: str) -> EventJson:
        """Return one event with its matches and deliveries."""
        wanted = known("event", event_id)
        with database.read() as connection:
            event = events.get(connection, wanted)
            seen = sightings_of(connection, [wanted])
        if event is None:
            raise not_found("event", event_id)
        return EventJson.of(event, sightings=seen.get(event_id, 1))

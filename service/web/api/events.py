"""Events: what arrived, and what became of it."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint
from spectree import SpecTree

from service.erasing import forget_event
from service.replays import Replays
from service.store import events, refused
from service.store.sightings import sightings_of
from service.web.api.documentation import answer
from service.web.api.ids import known
from service.web.api.paging import page_of
from service.web.api.queries import EventFilter, RefusalFilter
from service.web.api.replay_requests import ReplayRequest, ReplaysRequest
from service.web.parts import WebParts
from service.web.problems import Refusal, not_found
from service.web.replay_shapes import ReplayJson, ReplayListJson
from service.web.schemas import EventJson, EventListJson, ForgottenJson, RefusalJson, RefusalListJson


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    database = parts.runtime.database
    replays = Replays(database, parts.dispatcher)

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

    @api.get("/events/refused")
    @documented.validate(resp=answer(RefusalListJson), tags=["events"])
    def list_refused(query: RefusalFilter) -> RefusalListJson:
        """List deliveries that were refused, newest first, each with the reason. They have no event."""
        with database.read() as connection:
            found = refused.listing(connection, limit=query.limit + 1, after_id=query.cursor)
        page = found[: query.limit]
        following = str(page[-1][0]) if len(found) > query.limit else None
        return RefusalListJson(items=[RefusalJson.of(*one) for one in page], next=following)

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

    @api.post("/events/replay")
    @documented.validate(resp=answer(ReplayListJson), tags=["events"])
    def replay_events(json: ReplaysRequest) -> ReplayListJson:
        """Do several events again, or show what that would start.

        Each becomes a new event that the triggers decide on as they are now.
        """
        wish = json.wishes()
        done = replays.preview(wish) if json.dry_run else replays.perform(wish)
        return ReplayListJson(items=[ReplayJson.of(one) for one in done], next=None)

    @api.post("/events/<event_id>/replay")
    @documented.validate(resp=answer(ReplayJson), tags=["events"])
    def replay_event(event_id: str, json: ReplayRequest) -> ReplayJson:
        """Do one event again, or show what that would start."""
        wish = json.wish(known("event", event_id))
        (done,) = replays.preview(wish) if json.dry_run else replays.perform(wish)
        if done.error is not None:
            raise Refusal(HTTPStatus.CONFLICT, done.error)
        return ReplayJson.of(done)

    @api.post("/events/<event_id>/forget")
    @documented.validate(resp=answer(ForgottenJson), tags=["events"])
    def forget(event_id: str) -> ForgottenJson:
        """Erase an event for ever: its data, its key, its replays, and what its runs kept of it.

        The same delivery would be new again.
        """
        wanted = known("event", event_id)
        return ForgottenJson(event_id=wanted, run_ids=forget_event(parts.runtime, wanted))

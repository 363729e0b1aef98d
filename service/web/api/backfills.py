"""Backfills: look at one before it is made, make it, follow it, hold it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Blueprint, url_for
from pydantic import BaseModel, ConfigDict, Field
from spectree import SpecTree

from service.backfills.request import (
    CONCURRENCY,
    MOST,
    BackfillError,
    Dates,
    Events,
    Order,
    Reprocess,
    Request,
    moment_of,
)
from service.backfills.submitting import Backfills
from service.store import backfill_slots, backfills
from service.store.backfills import Backfill, BackfillState, Place
from service.store.session import Commit, Transaction
from service.store.values import Outcome
from service.web.api.documentation import answer
from service.web.api.ids import known
from service.web.api.paging import page_of
from service.web.api.queries import MAX_PAGE, Name, Page, Query, UtcTime
from service.web.backfill_shapes import BackfillJson, BackfillListJson, PreviewJson, SlotJson, SlotListJson
from service.web.parts import WebParts
from service.web.problems import not_found


class BackfillFilter(Page):
    project: Name | None = None
    pipeline: Name | None = None
    state: BackfillState | None = None


class SlotFilter(Query):
    cursor: int = Field(-1, ge=-1, le=MOST, description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="Slots on a page.")


class PreviewRequest(BaseModel):
    """A backfill over dates (`start`, `end`), or over stored events (`events`)."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Name
    project: Name | None = Field(None, description="The default project when absent.")
    trigger: Name | None = Field(None, description="Its variables, and its schedule where `every` is absent.")
    start: Name | None = Field(None, description="A date, or an ISO time; without a zone local time.")
    end: Name | None = Field(None, description="Included; a date means all of that day.")
    every: Name | None = Field(None, description="How long a slot is: 15m, 1h, 1d, 1w, 1mo, 1y.")
    events: bool = Field(False, description="Do stored events of the trigger again.")
    since: UtcTime | None = Field(None, description="Events received at this time or later.")
    until: UtcTime | None = Field(None, description="Events received before this time.")
    outcome: Outcome | None = Field(None, description="Events of which the trigger made this.")
    timezone: Name | None = Field(None, description="The trigger's when absent, else UTC.")
    variables: dict[str, Any] = Field(default_factory=dict, description="Win over those of the trigger.")
    reprocess: Reprocess | None = Field(None, description="none for dates, all for events when absent.")
    order: Order = Order.FORWARD
    concurrency: int = Field(CONCURRENCY, description="How many of its runs are open at once.")
    chunk: int = Field(1, description="How many slots share a run.")
    limit: int | None = Field(None, description="At most so many slots run.")
    stop_after: int | None = Field(None, description="Stop after so many failures.")

    def request(self, project: str) -> Request:
        """Return it as the backfill takes it. Raises BackfillError."""
        return Request(
            place=Place(project, self.pipeline, self.trigger),
            over=self._over(),
            **{name: getattr(self, name) for name in _SAME_NAMES},
        )

    def _over(self) -> Dates | Events:
        events, dates = (self.since, self.until, self.outcome), (self.start, self.end, self.every)
        if self.events:
            if any(dates):
                raise BackfillError(
                    "a backfill over events has no `start`, `end` and `every`; give since and until"
                )
            return Events(*events)
        if any(events):
            raise BackfillError("`since`, `until` and `outcome` are for a backfill over events")
        if self.start is None or self.end is None:
            raise BackfillError("give `start` and `end`, or `events`")
        return Dates(moment_of(self.start), moment_of(self.end), self.every)


class BackfillRequest(PreviewRequest):
    """A backfill to be made."""

    token: str | None = Field(None, description="Of the preview: only that list is submitted, else 409.")


_SAME_NAMES = (
    *("timezone", "variables", "reprocess", "order"),
    *("concurrency", "chunk", "limit", "stop_after"),
)


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    _register_making(api, parts, documented)
    _register_reading(api, parts, documented)
    _register_changing(api, parts, documented)


def _register_making(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    made = Backfills(parts.runtime, parts.dispatcher)

    def project_of(json: PreviewRequest) -> str:
        projects = parts.runtime.projects
        return projects.default.name if json.project is None else projects.get(json.project).name

    @api.post("/backfills/preview")
    @documented.validate(resp=answer(PreviewJson), tags=["backfills"])
    def preview_backfill(json: PreviewRequest) -> PreviewJson:
        """Show every slot with what would happen to it, and why. Writes nothing."""
        return PreviewJson.of(made.preview(json.request(project_of(json))))

    @api.post("/backfills")
    @documented.validate(resp=answer(BackfillJson, status=HTTPStatus.CREATED), tags=["backfills"])
    def create_backfill(json: BackfillRequest) -> tuple[BackfillJson, HTTPStatus, dict[str, str]]:
        """Make a backfill. Engines begin with it at once.

        With the token of a preview only that list is submitted: 409 when it would be another one by now.
        """
        backfill = made.submit(json.request(project_of(json)), token=json.token)
        location = {"Location": url_for("api.get_backfill", backfill_id=backfill.id)}
        return _described(parts, backfill), HTTPStatus.CREATED, location


def _register_reading(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    database = parts.runtime.database

    @api.get("/backfills")
    @documented.validate(resp=answer(BackfillListJson), tags=["backfills"])
    def list_backfills(query: BackfillFilter) -> BackfillListJson:
        """List backfills, newest first."""
        with database.read() as connection:
            found = backfills.listing(
                connection,
                project=query.project,
                pipeline=query.pipeline,
                state=query.state,
                limit=query.limit + 1,
                after_id=query.cursor,
            )
            page, following = page_of(found, query.limit)
            return BackfillListJson(items=BackfillJson.read(connection, list(page)), next=following)

    @api.get("/backfills/<backfill_id>")
    @documented.validate(resp=answer(BackfillJson), tags=["backfills"])
    def get_backfill(backfill_id: str) -> BackfillJson:
        """Return one backfill with the counts of its slots."""
        with database.read() as connection:
            found = backfills.get(connection, known("backfill", backfill_id))
        if found is None:
            raise not_found("backfill", backfill_id)
        return _described(parts, found)

    @api.get("/backfills/<backfill_id>/slots")
    @documented.validate(resp=answer(SlotListJson), tags=["backfills"])
    def list_slots(backfill_id: str, query: SlotFilter) -> SlotListJson:
        """List the slots of a backfill with their runs, in the order of processing."""
        wanted = known("backfill", backfill_id)
        with database.read() as connection:
            if backfills.get(connection, wanted) is None:
                raise not_found("backfill", backfill_id)
            found = backfill_slots.page(connection, wanted, limit=query.limit + 1, after=query.cursor)
        page = found[: query.limit]
        following = str(page[-1].position) if len(found) > query.limit else None
        return SlotListJson(items=[SlotJson.of(slot) for slot in page], next=following)


def _register_changing(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    def changed(backfill_id: str, how: Callable[[Transaction, str], Backfill]) -> BackfillJson:
        wanted = known("backfill", backfill_id)
        return _described(parts, parts.runtime.database.write(Commit.BACKFILL, lambda tx: how(tx, wanted)))

    @api.post("/backfills/<backfill_id>/pause")
    @documented.validate(resp=answer(BackfillJson), tags=["backfills"])
    def pause_backfill(backfill_id: str) -> BackfillJson:
        """Begin nothing more until it is resumed; what runs goes on."""
        return changed(backfill_id, backfills.pause)

    @api.post("/backfills/<backfill_id>/resume")
    @documented.validate(resp=answer(BackfillJson), tags=["backfills"])
    def resume_backfill(backfill_id: str) -> BackfillJson:
        """Let a paused or stopped backfill go on."""
        return changed(backfill_id, backfills.resume)

    @api.post("/backfills/<backfill_id>/cancel")
    @documented.validate(resp=answer(BackfillJson), tags=["backfills"])
    def cancel_backfill(backfill_id: str) -> BackfillJson:
        """End a backfill: what waits is cancelled, what runs is asked to end."""
        return changed(backfill_id, backfills.cancel)


def _described(parts: WebParts, backfill: Backfill) -> BackfillJson:
    with parts.runtime.database.read() as connection:
        return BackfillJson.read(connection, [backfill])[0]

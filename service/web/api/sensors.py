"""Sensors: where they stand, their ticks, a dry tick, and setting them anew."""

from __future__ import annotations

import threading
from http import HTTPStatus

from flask import Blueprint
from pydantic import BaseModel, ConfigDict, Field
from spectree import SpecTree

from service.store import triggers as trigger_rows
from service.store.session import Commit
from service.watching.dry import DryTicks
from service.web.api.documentation import answer
from service.web.api.queries import ProjectQuery, TriggerFilter
from service.web.parts import WebParts
from service.web.problems import Refusal
from service.web.sensor_views import (
    DryTickJson,
    Existing,
    SensorDetailJson,
    SensorListJson,
    SensorViews,
)

MOST_DRY_TICKS = 2  # at once: each has a process of its own
SHOWN_EVENTS = 50
SHOWN_TICKS = 50


class DryTickQuery(ProjectQuery):
    limit: int = Field(SHOWN_EVENTS, ge=1, le=1000, description="Events shown of each state.")


class ResetRequest(BaseModel):
    """How to look for the first time, again."""

    model_config = ConfigDict(extra="forbid")

    existing: Existing = Field(
        description="What is there and not yet known: `ignore` makes it baseline, `trigger` makes it events."
    )


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    views = SensorViews(parts.runtime)
    dry_ticks = DryTicks(parts.runtime, parts.dispatcher)
    permits = threading.BoundedSemaphore(MOST_DRY_TICKS)
    database = parts.runtime.database

    @api.get("/sensors")
    @documented.validate(resp=answer(SensorListJson), tags=["sensors"])
    def list_sensors(query: TriggerFilter) -> SensorListJson:
        """List sensors by project and pipeline, each with its last tick. There is always one page."""
        return SensorListJson(items=views.all(query.project, query.pipeline), next=None)

    @api.get("/sensors/<pipeline>/<name>")
    @documented.validate(resp=answer(SensorDetailJson), tags=["sensors"])
    def get_sensor(pipeline: str, name: str, query: ProjectQuery) -> SensorDetailJson:
        """Return one sensor with its last ticks."""
        return views.one(query.project, pipeline, name, ticks=SHOWN_TICKS)

    @api.post("/sensors/<pipeline>/<name>/dry-tick")
    @documented.validate(resp=answer(DryTickJson), tags=["sensors"])
    def tick_sensor_dry(pipeline: str, name: str, query: DryTickQuery) -> DryTickJson:
        """Tick a sensor dry: tell what it would find and what would become of that. Writes nothing."""
        compiled = views.compiled(query.project, pipeline, name)
        if not permits.acquire(blocking=False):
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MOST_DRY_TICKS} dry ticks go on already; try again when they have ended.",
                headers={"Retry-After": "5"},
            )
        try:
            return DryTickJson.of(dry_ticks.tick(compiled, limit=query.limit))
        finally:
            permits.release()

    @api.post("/sensors/<pipeline>/<name>/reset")
    @documented.validate(resp=answer(SensorDetailJson), tags=["sensors"])
    def reset_sensor(pipeline: str, name: str, query: ProjectQuery, json: ResetRequest) -> SensorDetailJson:
        """Forget where a sensor stands, so that its next tick looks as if for the first time.

        What is known stays known: nothing starts twice.
        """
        views.reset(query.project, pipeline, name, json.existing)
        return views.one(query.project, pipeline, name, ticks=SHOWN_TICKS)

    @api.post("/sensors/<pipeline>/<name>/pause")
    @documented.validate(resp=answer(SensorDetailJson), tags=["sensors"])
    def pause_sensor(pipeline: str, name: str, query: ProjectQuery) -> SensorDetailJson:
        """Pause a sensor's trigger: it goes on watching, and its events are held until it is resumed."""
        project = views.one(query.project, pipeline, name, ticks=1).project
        database.write(Commit.TRIGGER, lambda tx: trigger_rows.pause(tx, project, pipeline, name))
        return views.one(project, pipeline, name, ticks=SHOWN_TICKS)

    @api.post("/sensors/<pipeline>/<name>/resume")
    @documented.validate(resp=answer(SensorDetailJson), tags=["sensors"])
    def resume_sensor(pipeline: str, name: str, query: ProjectQuery) -> SensorDetailJson:
        """Resume a sensor's trigger and let the events it held start their runs, oldest first."""
        project = views.one(query.project, pipeline, name, ticks=1).project
        parts.dispatcher.release(project, pipeline, name)
        return views.one(project, pipeline, name, ticks=SHOWN_TICKS)

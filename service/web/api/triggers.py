"""Triggers: what they are, and pausing and resuming them."""

from __future__ import annotations

from flask import Blueprint
from spectree import SpecTree

from service.store import triggers as trigger_rows
from service.store.session import Commit
from service.web.api.documentation import answer
from service.web.api.queries import ProjectQuery, ResumeQuery, TriggerFilter
from service.web.declarations import Declarations, TriggerJson, TriggerListJson
from service.web.parts import WebParts


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    declarations = Declarations(parts.runtime)
    database = parts.runtime.database

    @api.get("/triggers")
    @documented.validate(resp=answer(TriggerListJson), tags=["triggers"])
    def list_triggers(query: TriggerFilter) -> TriggerListJson:
        """List triggers by project and pipeline. There is always one page."""
        return TriggerListJson(items=declarations.triggers(query.project, query.pipeline), next=None)

    @api.get("/triggers/<pipeline>/<name>")
    @documented.validate(resp=answer(TriggerJson), tags=["triggers"])
    def get_trigger(pipeline: str, name: str, query: ProjectQuery) -> TriggerJson:
        """Return one trigger."""
        return declarations.trigger(query.project, pipeline, name)

    @api.post("/triggers/<pipeline>/<name>/pause")
    @documented.validate(resp=answer(TriggerJson), tags=["triggers"])
    def pause_trigger(pipeline: str, name: str, query: ProjectQuery) -> TriggerJson:
        """Pause a trigger: its events are still accepted, and held until it is resumed."""
        project = declarations.trigger(query.project, pipeline, name).project
        database.write(Commit.TRIGGER, lambda tx: trigger_rows.pause(tx, project, pipeline, name))
        return declarations.trigger(project, pipeline, name)

    @api.post("/triggers/<pipeline>/<name>/resume")
    @documented.validate(resp=answer(TriggerJson), tags=["triggers"])
    def resume_trigger(pipeline: str, name: str, query: ResumeQuery) -> TriggerJson:
        """Resume a trigger. All events that it held start their runs, unless `held` says otherwise."""
        project = declarations.trigger(query.project, pipeline, name).project
        parts.dispatcher.release(project, pipeline, name, query.held)
        return declarations.trigger(project, pipeline, name)

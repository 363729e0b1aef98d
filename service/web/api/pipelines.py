"""Pipelines, as their files declare them."""

from __future__ import annotations

from flask import Blueprint
from spectree import SpecTree

from service.web.api.documentation import answer
from service.web.api.queries import PipelineFilter, ProjectQuery
from service.web.declarations import Declarations, PipelineJson, PipelineListJson
from service.web.parts import WebParts


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    declarations = Declarations(parts.runtime)

    @api.get("/pipelines")
    @documented.validate(resp=answer(PipelineListJson), tags=["pipelines"])
    def list_pipelines(query: PipelineFilter) -> PipelineListJson:
        """List pipelines by project and name. There is always one page."""
        return PipelineListJson(items=declarations.pipelines(query.project), next=None)

    @api.get("/pipelines/<name>")
    @documented.validate(resp=answer(PipelineJson), tags=["pipelines"])
    def get_pipeline(name: str, query: ProjectQuery) -> PipelineJson:
        """Return one pipeline with its blocks, inputs and triggers."""
        return declarations.pipeline(query.project, name)

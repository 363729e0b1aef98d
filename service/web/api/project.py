"""Projects: what this service serves, and what is wrong with it."""

from __future__ import annotations

from flask import Blueprint
from spectree import SpecTree

from service.web.api.documentation import answer
from service.web.api.queries import ProjectQuery
from service.web.declarations import Declarations, ProjectJson
from service.web.parts import WebParts


def register(api: Blueprint, parts: WebParts, documented: SpecTree) -> None:
    declarations = Declarations(parts.runtime)

    @api.get("/project")
    @documented.validate(resp=answer(ProjectJson), tags=["project"])
    def get_project(query: ProjectQuery) -> ProjectJson:
        """Return a project: its pipelines by name, and every problem of its files."""
        return declarations.describe_project(query.project)

"""Warns of SQL blocks whose text does not read as the SQL of their database."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.model import Problem, Severity
from pipelines.project import Project
from pipelines.sql_lint import unreadable
from pipelines.sql_providers import PROVIDERS


def sql_problems(project: Project) -> Iterator[Problem]:
    """Yield a warning, by line and column: the database has the last word, and may know more than we do."""
    for name, pipeline in project.pipelines.items():
        sources = project.sources_of(name)
        for block in pipeline.blocks:
            provider = PROVIDERS.get(str(block.configuration.get("data_provider")))
            if block.kind != "sql" or provider is None or block.path not in sources:
                continue
            fault = unreadable(sources[block.path], provider.glot)
            if fault is not None:
                said = (
                    f"block '{block.name}': this does not read as {provider.connector} SQL: {fault.sentence}"
                )
                said += f" (column {fault.column})"
                yield Problem(block.path, fault.line, Severity.WARNING, said, name)

"""Small projects on disk, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from pipelines.model import Severity
from pipelines.project import Project

_FUNCTION = "from pipelines import {decorator}\n\n\n@{decorator}\ndef run(*inputs, **kwargs):\n    return 1\n"


class ProjectFolder:
    """Writes the files of a project, and reads it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(dedent(text), "utf-8")
        return place

    def block(self, name: str, kind: str = "data_loader") -> None:
        self.write(
            f"{'custom' if kind == 'custom' else kind + 's'}/{name}.py", _FUNCTION.format(decorator=kind)
        )

    def pipeline(self, name: str, text: str | None = None) -> None:
        """Declare a pipeline; without `text` one good block named `load`."""
        self.block("load")
        self.write(f"pipelines/{name}/metadata.yaml", text or "blocks:\n- {name: load, type: data_loader}\n")

    def triggers(self, name: str, text: str) -> None:
        self.write(f"pipelines/{name}/triggers.yaml", text)

    def load(self) -> Project:
        return Project.load(self.root)


def errors(project: Project, file: str = "") -> list[tuple[int, str]]:
    """Return the (line, message) of every error in `file`."""
    return [
        (problem.line, problem.message)
        for problem in project.problems
        if problem.severity is Severity.ERROR and file in problem.file
    ]


def warnings_of(project: Project) -> list[str]:
    return [problem.message for problem in project.problems if problem.severity is Severity.WARNING]

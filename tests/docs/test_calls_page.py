"""The snippets of the page on blocks that start pipelines make a project that can run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pipelines
from pipelines import calls
from pipelines.model import Severity
from pipelines.products import AGES, MOMENTS
from pipelines.project import Project
from tests.architecture.floors import ROOT
from tests.parts.projects import BlockFile, write, write_pipeline, write_project

PAGE = (ROOT / "docs" / "calls.md").read_text("utf-8")
_SNIPPET = re.compile(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = write_project(tmp_path / "shop")
    write_pipeline(root, "load_customers", [BlockFile("clean", "@custom\ndef clean():\n    return 1\n")])
    write_pipeline(
        root,
        "starts",
        [
            BlockFile("start_months", "", type="data_exporter"),
            BlockFile("move_mark", ""),
            BlockFile("count_customers", "@transformer\ndef count(frame):\n    ...\n", type="transformer"),
        ],
    )
    for path, text in _SNIPPET.findall(PAGE):
        write(root / path, text)
    return Project.load(root)


def test_the_snippets_can_run(project: Project) -> None:
    assert len(_SNIPPET.findall(PAGE)) == 4
    wrong = [str(problem) for problem in project.problems if problem.severity is not Severity.INFO]
    assert wrong == []
    assert [block.kind for block in project.pipelines["report"].blocks] == ["global_data_product", "python"]


def test_what_the_page_names_is_there() -> None:
    for name in re.findall(r"`(\w+)\(", PAGE):
        assert hasattr(pipelines, name), name
    for name in ("RunFailed", "WaitTimeout", "CallRefused"):
        assert f"`{name}`" in PAGE
        assert hasattr(calls, name)
    assert [name for name in (*AGES, *MOMENTS) if f"`{name}`" not in PAGE] == []
    fields = calls.CalledRun.__dataclass_fields__.keys() - {"is_new"}
    assert [name for name in fields if f"`{name}`" not in PAGE] == []

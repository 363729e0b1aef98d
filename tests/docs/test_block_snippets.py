"""The projects that pages on kinds of block show: the files of a page together make one without problems."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pipelines.model import Severity
from pipelines.parse_checks import COLUMN_TYPES
from pipelines.project import Project
from tests.architecture.floors import ROOT

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("checks", "data-integration", "dbt", "r")]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:#|--) (\S+\.(?:py|sql|r|yaml))\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_of_a_page_make_a_project_without_problems(page: Path, tmp_path: Path) -> None:
    for language, text in _FENCE.findall(page.read_text("utf-8")):
        named = _FILE.match(text)
        assert named is not None, f"{page.name}: a snippet does not say which file it is: {text[:60]}"
        file = tmp_path / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if language == "python":
            ast.parse(text)

    project = Project.load(tmp_path)

    assert [str(one) for one in project.problems if one.severity is not Severity.INFO] == []
    assert all(pipeline.blocks for pipeline in project.pipelines.values())
    assert project.pipelines


def test_page_on_checks_names_every_type_of_a_column() -> None:
    text = (ROOT / "docs" / "checks.md").read_text("utf-8")

    assert [kind for kind in COLUMN_TYPES if f"`{kind}`" not in text] == []

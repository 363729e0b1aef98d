"""Each section of docs/blocks.md is a project that a reader can take: it is checked, and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.model import Severity
from pipelines.project import Project
from pipelines.runspec import RunOptions, RunSpec
from pipelines.variables import RunFacts
from service.checks import problems_of
from tests.architecture.floors import ROOT
from tests.pipelines.running import EXECUTION_DATE, Bench

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_FILE = re.compile(r"^```\w+\n# (\S+\.(?:py|sql|yaml))\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Section -> how its run ends, a block, and the last line of that block's log.
ENDS = {
    "When blocks may fail": ("succeeded", "report", "sold 200 in unknown weather"),
    "Conditionals": (
        "succeeded",
        "invoice",
        "skipped: condition 'any_orders' of conditional 'any_orders' was false",
    ),
    "Callbacks": ("succeeded", "orders", "orders has 2 orders"),
    "Dynamic blocks": ("succeeded", "total", "[-3, 28]"),
    "Sensor blocks": ("waiting", "file_there", ""),
}


def sections() -> dict[str, dict[str, str]]:
    """Return the files of each section of the page that are run here, by path."""
    parts = _SECTION.split((ROOT / "docs" / "blocks.md").read_text("utf-8"))
    return {
        title: dict(_FILE.findall(text))
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
        if title in ENDS
    }


@pytest.mark.parametrize("title", ENDS)
def test_a_section_is_a_project_that_runs_as_it_says(title: str, tmp_path: Path) -> None:
    for path, text in {"metadata.yaml": "name: demo\n", **sections()[title]}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    project = Project.load(tmp_path)
    assert [str(one) for one in problems_of(project) if one.severity is not Severity.INFO] == []
    (name,) = project.pipelines
    pinned = project.pinned(name)
    assert pinned is not None
    pipeline, sources = pinned
    bench = Bench(tmp_path)

    result = bench.execute(
        RunSpec(
            RunFacts("run-1", "demo", name, None, EXECUTION_DATE),
            tmp_path,
            pipeline,
            sources,
            {},
            options=RunOptions(
                allow_blocks_to_fail=any(one.spec.get("allow_blocks_to_fail") for one in pipeline.triggers)
            ),
        )
    )

    state, block, line = ENDS[title]
    assert result.state == state, result.error
    assert bench.listener.text_of(block).splitlines()[-1:] == ([line] if line else [])

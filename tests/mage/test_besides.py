"""Files that Mage's blocks read by a path from the folder around the project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.mage.sources import compiled

BLOCK = """
from mage_ai.settings.repo import get_repo_path
import pandas as pd

def text_of(file):
    with file:
        return file.read()

def run(path):
    return {expression}
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    root = tmp_path / "my-shop"
    (root / "data").mkdir(parents=True)
    (root / "data" / "x.csv").write_text("a\n1\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("a\n2\n")
    (tmp_path / "data" / "beside.csv").write_text("a\n3\n")
    monkeypatch.chdir(root)
    return Places(root)


def read(places: Places, expression: str, path: Any) -> Any:
    names: dict[str, Any] = {}
    with mage_names(places):
        exec(compiled(BLOCK.format(expression=expression), "load.py", places), names)
        return names["run"](path)


@pytest.mark.parametrize("expression", ["text_of(open(path))", "pd.read_csv(path).to_csv(index=False)"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("my-shop/data/x.csv", 1),  # as Mage finds it
        ("data/x.csv", 1),  # what is in the project comes first
        ("old_name/data/x.csv", 1),  # as Mage found it in a folder of another name
        ("data/beside.csv", 3),
        (Path("data/beside.csv"), 3),
    ],
)
def test_a_file_is_found_in_the_project_or_beside_it(
    places: Places, expression: str, path: Any, value: int
) -> None:
    assert read(places, expression, path) == f"a\n{value}\n"


def test_what_is_nowhere_is_named_as_it_was_written(places: Places) -> None:
    with pytest.raises(FileNotFoundError, match=r"'data/nowhere\.csv'"):
        read(places, "pd.read_csv(path)", "data/nowhere.csv")


def test_texts_that_are_no_paths_are_left_alone(places: Places) -> None:
    data = '[{"a": 1}, {"a": "' + "long " * 1_000 + '"}]'

    assert len(read(places, "pd.read_json(path)", data)) == 2

"""Variables of pipelines, read and written by code."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path

import pytest

from pipelines import (
    delete_global_variable,
    get_global_variable,
    get_global_variables,
    set_global_variable,
)
from pipelines.global_variables import VariableError
from tests.parts.projects import write

TEXT = """\
# Sums of a shop.
name: sums
blocks:
- name: load   # the first one
  type: data_loader
  upstream_blocks: []
variables:
  bucket: 'lake'  # quoted by hand
  limit: 10
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "pipelines/sums/metadata.yaml", TEXT)
    return tmp_path / "pipelines/sums/metadata.yaml"


def test_a_variable_is_written_and_all_else_stays(tmp_path: Path, file: Path) -> None:
    set_global_variable("sums", "limit", 20, root=tmp_path)
    assert file.read_text() == TEXT.replace("limit: 10", "limit: 20")

    set_global_variable("sums", "since", date(2024, 1, 31), root=tmp_path)
    set_global_variable("sums", "of", {"shops": [1, "two"]}, root=tmp_path)
    delete_global_variable("sums", "limit", root=tmp_path)
    delete_global_variable("sums", "limit", root=tmp_path)

    assert get_global_variables("sums", root=tmp_path) == {
        "bucket": "lake",
        "since": date(2024, 1, 31),
        "of": {"shops": [1, "two"]},
    }
    assert get_global_variable("sums", "limit", root=tmp_path) is None
    assert file.read_text().startswith(TEXT.split("variables:")[0])
    assert [path.name for path in file.parent.iterdir()] == ["metadata.yaml"]


def test_a_pipeline_without_variables_gets_some(tmp_path: Path, file: Path) -> None:
    file.write_text("blocks:\n  - name: load\n    type: custom\nvariables:\n")

    set_global_variable("sums", "limit", 1, root=tmp_path)

    assert file.read_text() == "blocks:\n  - name: load\n    type: custom\nvariables:\n  limit: 1\n"


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path, file: Path) -> None:
    writers = [
        threading.Thread(
            target=set_global_variable, args=("sums", f"n{number}", number), kwargs={"root": tmp_path}
        )
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(get_global_variables("sums", root=tmp_path)) == 2 + 8


@pytest.mark.parametrize(
    ("pipeline", "key", "value", "sentence"),
    [
        ("../sums", "limit", 1, "cannot name a pipeline"),
        ("other", "limit", 1, "there is no pipeline 'other'"),
        ("sums", "two words", 1, "must be a name as Python has them"),
        ("sums", "ds", 1, "each run sets it"),
        ("sums", "limit", object(), "holds, a object"),
        ("sums", "limit", {1: 2}, "is no text"),
        ("outside", "limit", 1, "lies outside of the project"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, file: Path, pipeline: str, key: str, value: object, sentence: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    file.parent.parent.rename(project / "pipelines")
    write(tmp_path / "outside/metadata.yaml", TEXT)
    (project / "pipelines/outside").symlink_to(tmp_path / "outside")

    with pytest.raises(VariableError, match=sentence):
        set_global_variable(pipeline, key, value, root=project)

    assert (project / "pipelines/sums/metadata.yaml").read_text() == TEXT
    assert (tmp_path / "outside/metadata.yaml").read_text() == TEXT

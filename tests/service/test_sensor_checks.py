from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.model import Severity
from pipelines.project import Project
from service.watching.sensor_checks import sensor_problems
from tests.parts.clockwork import write_project

LANDED = """
triggers:
- name: landed
  type: sensor
  sensor: {sensor}
  options: {options}
  existing: {existing}
"""


def problems(
    root: Path, *, sensor: str = "files", options: str = "{path: inbox}", existing: str = "ignore"
) -> list[str]:
    write_project(root, LANDED.format(sensor=sensor, options=options, existing=existing))
    found = sensor_problems(Project.load(root))
    assert all(problem.severity is Severity.ERROR for problem in found)
    assert all((problem.file, problem.line) == ("pipelines/taxi/triggers.yaml", 3) for problem in found)
    return [problem.message for problem in found]


def test_good_sensor_has_no_problems(tmp_path: Path) -> None:
    assert problems(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{pattern: '*.csv'}", "'path' is missing"),
        ("{path: inbox, patern: '*.csv'}", "'patern' is not an option"),
        ("{path: inbox, hash: perhaps}", "'hash'"),
    ],
)
def test_wrong_option_is_named_with_file_and_line(tmp_path: Path, options: str, words: str) -> None:
    (message,) = problems(tmp_path, options=options)

    assert message.startswith("trigger 'landed': sensor 'files': ")
    assert words in message


@pytest.mark.parametrize(
    ("sensor", "options", "words"),
    [
        ("gcs_object", "{bucket: 'gs://lake'}", "'bucket' is not as it should be: the bucket's name"),
        ("sql", "{query: SELECT 1}", "sensor 'sql': give either `profile` or `url`"),
        ("python", "{path: sensors/gone.py}", "the project has no file sensors/gone.py"),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(tmp_path: Path, sensor: str, options: str, words: str) -> None:
    (message,) = problems(tmp_path, sensor=sensor, options=options)

    assert words in message


def test_option_that_is_a_template_is_not_judged(tmp_path: Path) -> None:
    assert problems(tmp_path, options="{path: \"{{ env_var('INBOX') }}\"}") == []

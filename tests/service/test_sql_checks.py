"""SQL that its database would not read is told by `millrace check`."""

from __future__ import annotations

from pathlib import Path

from pipelines.model import Problem, Severity
from service.sql_checks import sql_problems
from tests.pipelines.projects import ProjectFolder, warnings_of

BLOCKS = """
blocks:
- name: totals
  type: data_exporter
  language: sql
  configuration: {configuration}
"""


def problems(root: Path, text: str, configuration: str = "{data_provider: duckdb}") -> list[Problem]:
    folder = ProjectFolder(root)
    folder.write("data_exporters/totals.sql", text)
    folder.pipeline("shop", BLOCKS.format(configuration=configuration))
    return list(sql_problems(folder.load()))


def test_a_fault_is_told_by_line_and_column_as_a_warning(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "SELECT day,\n  sum(amount) AS amount of {{ df_1 }}")

    assert (problem.file, problem.line, problem.severity) == (
        "data_exporters/totals.sql",
        2,
        Severity.WARNING,
    )
    assert (
        "does not read as DuckDB SQL: Invalid expression / Unexpected token at 'of' (column 25)"
        in problem.message
    )


def test_good_text_and_databases_that_are_not_named_are_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, "SELECT 1") == []
    assert problems(tmp_path, "SELECT (", "{}") == []
    assert problems(tmp_path, "SELECT (", "{data_provider: snowflake}") == []


def test_a_misspelt_key_of_the_configuration_is_told_and_others_are_the_blocks_own(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path)
    folder.write("data_exporters/totals.sql", "SELECT 1")
    folder.pipeline("shop", BLOCKS.format(configuration="{export_write_polcy: replace, region: north}"))

    (warning,) = warnings_of(folder.load())

    assert "unknown key 'export_write_polcy'" in warning
    assert "did you mean 'export_write_policy'?" in warning

"""The code of a block is checked without being run."""

from __future__ import annotations

import pytest

from pipelines.lint import lint_block
from pipelines.model import Block, BlockType, Problem, Severity
from pipelines.parse_fields import Findings

MAGE_LOADER = """\
if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_loader
def load(*args, **kwargs):
    return "\\d"


@test
def test_output(output, *args) -> None:
    assert output is not None
"""


def lint(text: str, *, language: str = "python", kind: BlockType = BlockType.DATA_LOADER) -> list[Problem]:
    findings = Findings("block")
    lint_block(Block("load", kind, language, "block"), text, findings)
    return findings.problems


def test_block_as_mage_writes_it_is_fine() -> None:
    assert lint(MAGE_LOADER) == []


@pytest.mark.parametrize(
    "decorator", ["data_loader", "data_loader()", "pipelines.data_loader", "p.data_loader(x=1)"]
)
def test_decorator_is_found_in_every_spelling(decorator: str) -> None:
    assert lint(f"@{decorator}\ndef load(): pass\n") == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "it has no `source`"),
        ("source: {type: mysql}", 1, "block 'load', source: `type` is 'mysql'; it may be one of filesystem"),
        ("source: {path: in}", 1, "block 'load', source: it has no `type`; it may be one of"),
        ("source:\n  type: filesystem\nsauce: 1", 3, "unknown key 'sauce'; it may have destination"),
        ("source: {type: rest_api}\nwrite_disposition: upsert", 2, "`write_disposition` is 'upsert'"),
        ("source: {type: rest_api}\ndestination: {type: oracle}", 2, "`type` is 'oracle'"),
        ("source: {type: rest_api}\ndestination: lake", 2, "must be a mapping"),
        ("source: [", 1, ""),
    ],
)
def test_yaml_of_a_data_integration_is_checked(text: str, line: int, said: str) -> None:
    [problem] = lint(text, language="yaml", kind=BlockType.DATA_INTEGRATION)

    assert (problem.line, problem.severity) == (line, Severity.ERROR)
    assert said in problem.message


def test_python_of_a_data_integration_is_checked_as_any() -> None:
    [problem] = lint("def f(): pass\n", kind=BlockType.DATA_INTEGRATION)

    assert "no function is decorated with @data_integration" in problem.message


def test_yaml_of_a_data_integration_may_hold_templates() -> None:
    text = "source: {type: \"{{ variables('kind') }}\"}\nwrite_disposition: '{{ how }}'\n"

    assert lint(text, language="yaml", kind=BlockType.DATA_INTEGRATION) == []


def test_callbacks_of_the_older_kind_are_callbacks() -> None:
    assert lint("@on_success\ndef f(**kwargs): pass\n", kind=BlockType.CALLBACK) == []


def test_a_callback_for_an_end_that_does_not_exist_is_told_of() -> None:
    [problem] = lint("@callback('sucess', 'failure')\ndef f(**kwargs): pass\n", kind=BlockType.CALLBACK)

    assert (problem.line, problem.severity) == (1, Severity.WARNING)
    assert "no block ends as 'sucess'" in problem.message


def test_a_very_long_expression_is_no_trouble() -> None:
    total = " + ".join(["1"] * 800)

    assert lint(f"@data_loader\ndef load(): return {total}\n") == []


def test_decorator_is_found_under_another_name() -> None:
    assert lint("from pipelines import data_loader as loader\n@loader\ndef load(): pass\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "from mage_ai.io.file import FileIO",
        "import mage_ai.io.config as c",
        "from mage_ai import io",
        "from mage_ai.data_preparation.variable_manager import get_variable, set_global_variable",
    ],
)
def test_imports_of_mage_that_are_there_are_no_problem(line: str) -> None:
    assert lint(f"{MAGE_LOADER}\n{line}\n") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from mage_ai.io.mongodb import MongoDB", "mage_ai.io.mongodb is not in Millrace"),
        ("from mage_ai.io.postgres import Postgress", "did you mean 'Postgres'?"),
        ("import mage_ai.services.spark.config", "SparkSession.builder"),
        ("if x: from mage_ai.io.trino import Trino", "sqlalchemy"),
    ],
)
def test_imports_of_mage_that_fail_are_told_with_a_remedy_and_leave_the_pipeline(
    line: str, said: str
) -> None:
    (problem,) = lint(f"{MAGE_LOADER}\n{line}\n")

    assert (problem.severity, problem.line) == (Severity.WARNING, 16)
    assert said in problem.message


@pytest.mark.parametrize("use", ["kwargs['spark']", "kwargs.get('spark')"])
def test_use_of_spark_is_warned_of(use: str) -> None:
    (problem,) = lint(f"@data_loader\ndef load(**kwargs):\n    return {use}.sql('select 1')\n")

    assert (problem.severity, problem.line) == (Severity.WARNING, 3)
    assert "SparkSession" in problem.message


def test_code_of_mage_may_change_columns_in_place() -> None:
    assert lint(f"{MAGE_LOADER}\ndf['a'].fillna(0, inplace=True)\ndf['a'][0] = 1\n") == []


def test_invalid_escape_in_a_block_is_no_warning_of_ours() -> None:
    assert lint("@data_loader\ndef load(): return '\\d'\n") == []


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("x = 1\ndef f(:\n", 2, "syntax error"),
        ("import os\n%matplotlib inline\n", 2, "notebook commands"),
        ("!pip install x\n", 1, "notebook commands"),
        ("def load(): pass\n", 1, "no function is decorated with @data_loader"),
        ("a = '\x00'", 1, "NUL"),
        ("x = " + "(" * 500 + ")" * 500, 1, ""),
    ],
)
def test_code_that_cannot_run_is_told(text: str, line: int, sentence: str) -> None:
    [problem] = lint(text)

    assert (problem.line, problem.severity) == (line, Severity.ERROR)
    assert sentence in problem.message


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("df['a'].fillna(0, inplace=True)", "write `df['a'] = df['a'].fillna(...)`"),
        ("df[column].fillna(0, inplace=True)", "changes a copy if that is a column"),
        ("df.age.fillna(0, inplace=True)", "write `df.age = df.age.fillna(...)`"),
        ("df[['a', 'b']].replace(1, 2, inplace=True)", "df[['a', 'b']] = df[['a', 'b']].replace(...)"),
        ("df['a'][df.b > 1] = 2", "write `df.loc[df.b > 1, 'a'] = ...`"),
        ("df['a'].loc[mask] = 2", "write `df.loc[mask, 'a'] = ...`"),
        ("df['a'][0] += 2", "write `df.loc[0, 'a'] = ...`"),
    ],
)
def test_chained_assignment_is_told_with_its_remedy(statement: str, remedy: str) -> None:
    [problem] = lint(f"from pipelines import data_loader\n@data_loader\ndef load(df):\n    {statement}\n")

    assert (problem.line, problem.severity) == (4, Severity.WARNING)
    assert remedy in problem.message


@pytest.mark.parametrize(
    "statement",
    [
        "config['a']['b'] = 1",
        "df['a'] = df['a'].fillna(0)",
        "df.loc[mask, 'a'] = 1",
        "df.fillna(0, inplace=True)",
        "self.df.fillna(0, inplace=True)",
        "frames[0].fillna(0, inplace=True)",
        "df.age.fillna(0)",
    ],
)
def test_assignment_that_reaches_its_frame_is_fine(statement: str) -> None:
    assert lint(f"from pipelines import data_loader\n@data_loader\ndef load(df):\n    {statement}\n") == []


def test_wrong_template_in_sql_is_told_with_its_line() -> None:
    [problem] = lint("select *\nfrom {{ df_1 \n", language="sql")

    assert (problem.line, problem.severity) == (2, Severity.ERROR)


def test_sql_as_mage_writes_it_is_fine() -> None:
    text = "-- {{ ds }}\nselect '{{ execution_date }}' from {{ df_1 }} where x = {{ block_output('a') }};"

    assert lint(text, language="sql") == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT {{ event.data.size | int }}",
        "SELECT {{ event.data.name | sql_literal }}",
        "{% if event.data.full %}SELECT 1{% else %}SELECT 2{% endif %}",
        "SELECT {{ 1 if event.data.full else 2 }}",
        "{% set size = event.data.size | int %}SELECT {{ size }}",
        "SELECT '{{ ds }}', {{ month }}, {{ variables('x') }} FROM {{ df_1 }}",
    ],
)
def test_sql_with_no_text_of_a_sender_in_it_is_fine(text: str) -> None:
    assert lint(text, language="sql") == []


@pytest.mark.parametrize(
    "text",
    [
        "{{ event.data.name }}",
        "'{{ event.data['name'] }}'",
        "{{ 'x' ~ event.key | upper }}",
        "{{ variables('event')['data']['name'] }}",
        "{% set name = event.data.name %}{{ name }}",
        "{% for key, part in event.data.parts %}{{ part }}{% endfor %}",
    ],
)
def test_event_data_that_would_be_read_as_sql_is_warned_of(text: str) -> None:
    (problem,) = lint(f"SELECT 1\n WHERE a = {text}", language="sql")

    assert (problem.severity, problem.line) == (Severity.WARNING, 2)
    assert "a sender could write SQL" in problem.message


def test_quotes_around_a_literal_are_warned_of() -> None:
    (problem,) = lint("SELECT\n '{{ month | sql_literal }}'", language="sql")

    assert problem.line == 2
    assert "brings its own quotes" in problem.message


def test_picking_by_a_lambda_as_in_mage_is_no_problem() -> None:
    assert lint("SELECT {{ block_output('load', parse=lambda data, _: data['x']) }}", language="sql") == []


def test_a_lambda_that_is_no_python_is_told_by_its_line() -> None:
    (problem,) = lint("SELECT\n{{ block_output('load', parse=lambda data, _: data[) }}", language="sql")

    assert (problem.line, problem.severity) == (2, Severity.ERROR)
    assert "is no Python" in problem.message

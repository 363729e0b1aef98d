"""Templates: what they can say, and that nothing in them works without bounds or reaches Python's insides."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.secrets import SecretMissing, Secrets
from pipelines.sql_templates import check_sql, render_sql
from pipelines.templating import (
    CompiledTree,
    TemplateError,
    expression,
    file_functions,
    render_file,
    render_tree,
)

EVENT = {
    "id": "1",
    "time": datetime(2024, 3, 9, 5, 7, tzinfo=UTC),
    "data": {
        "name": "2024/03/a.parquet",
        "size": "3",
        "items": [1, 2],
        "none": None,
        "nested": {"keys": "mine"},
    },
    "headers": {"webhook-id": "abc"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ event.data.size }}", "3"),
        ("{{ event.data.size | int > 2 }}", True),
        (" {{ event.data.items }} ", [1, 2]),
        ("{{ event.data.items[0] }}", 1),
        ("{{ event.data.nested.keys }}", "mine"),
        ("{{ event.data.none }}", None),
        ("{{ event.headers['webhook-id'] }}", "abc"),
        ("{{ event.data.name.split('/')[0] }}", "2024"),
        ("{{ event.data.missing | default('x') }}", "x"),
        ("{{ event.data.missing is defined }}", False),
        ("{{ event.time.strftime('%Y-%m-%d') }}", "2024-03-09"),
        ("{{ event.time.isoformat() }}", "2024-03-09T05:07:00+00:00"),
        ("{{ '2024-03-09' | date }}", date(2024, 3, 9)),
        ("{{ '%04d-%02d' | format(2024, 3) }}", "2024-03"),
        ("{{ event.data.items | map('string') | join('-') }}", "1-2"),
        ("{{ {'a': event.data.size, 'b': [1]} }}", {"a": "3", "b": [1]}),
        ("{{ event.data.nested | tojson }}", '{"keys": "mine"}'),
        ("{{ event.data.items | sum if event.data.items else 0 }}", 3),
        ("{{ 'a' ~ event.data.size }}", "a3"),
        ("s3://{{ event.data.name }}?n={{ event.data.size }}", "s3://2024/03/a.parquet?n=3"),
        ("plain text", "plain text"),
        ("{# a comment #}{{ 1 + 1 }}", 2),
    ],
)
def test_expression_gives_its_value(text: str, value: Any) -> None:
    assert expression(text).evaluate(event=EVENT) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ event.data.nam }}", "event.data: there is no 'nam' (there is: items, name"),
        ("{{ evnt.data }}", "'evnt' is not known here (known: event)"),
        ("{{ event.data.items[7] }}", "there is no item 7 (there are 2)"),
        ("{{ event.data.nope ~ 'x' }}", "there is no 'nope'"),
        ("{{ [event.data.nope] }}", "there is no 'nope'"),
        ("{{ event.data.size > 3 }}", "TypeError"),
        ("{{ event.headers.get }}", "call it with ()"),
    ],
)
def test_failing_expression_says_what_is_missing(text: str, sentence: str) -> None:
    with pytest.raises(TemplateError) as failed:
        expression(text).evaluate(event=EVENT)

    assert sentence in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("text", ["{{ 1 +", "{% if x %}y{% endif %}", "{{ x for x in y }}", "{{ a | nope }}"])
def test_text_that_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        expression(text)


GROWING = [
    "{{ 'a' * 200000000 }}",
    "{{ 200000000 * 'a' }}",
    "{{ '%0500000000d' | format(1) }}",
    "{{ '%0500000000d' % 1 }}",
    "{{ '%*d' | format(500000000, 1) }}",
    "{{ '{:0500000000d}'.format(1) }}",
    "{{ range(1000000000) | list }}",
    "{{ range(9000) | map('string') | map('replace', '', 'x' * 4000000) | list }}",
    "{{ [0] * 1000000000 }}",
    "{{ 9 ** 999999999 }}",
    "{{ ('x' * 4000000) ~ ('x' * 4000000) }}",
    "{{ [['x' * 4000000] * 100000] * 100000 }}",
    "{{ ([['x' * 4000000] * 100000] * 100000) | string }}",
    "{{ ([['x' * 4000000] * 100000] * 100000) | tojson }}",
    "{{ ('a' * 4000000).replace('a', 'b' * 1000) }}",
    "{{ ('b' * 1000).join(range(90000)) }}",
    "{{ 'x'.zfill(999999999) }}",
    "{{ 'x'.ljust(999999999) }}",
    "{{ 'x' | center(999999999) }}",
    "{{ 'x' | indent(999999999) }}",
    "{{ event.time.strftime('%0999999999d') }}",
    "{{ 'x' * 4000000 }}{{ 'x' * 4000000 }}",
    "{{ " + "[" * 200 + "]" * 200 + " }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "not " * 2000 + "1 }}",
    "{{ 1" + " + 1" * 2000 + " }}",
    "{{ x" + ".x" * 4000 + " }}",
    "{{ '" + "x" * 20000 + "' }}",
]


@pytest.mark.parametrize("text", GROWING, ids=range(len(GROWING)))
def test_template_that_would_grow_without_bounds_ends_at_once(text: str) -> None:
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(TemplateError):
            expression(text).evaluate(event=EVENT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert time.monotonic() - began < 5
    assert peak < 64_000_000


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ event.__class__.__mro__ }}",
        "{{ event['__class__'] }}",
        "{{ event | attr('__class__') }}",
        "{{ [event] | map(attribute='__class__') | list }}",
        "{{ event.data.name.split.__self__ }}",
        "{{ event.time.__reduce__() }}",
        "{{ event.headers.pop('webhook-id') }}",
        "{{ event.data.items.append(3) }}",
        "{{ event.data.name.format(event) }}",
        "{{ '{0.__class__}' | format(event) | upper > 1 }}",
        "{{ self.__init__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ namespace() }}",
        "{{ event.items.__func__ }}",
        "{% import 'os' as os %}{{ os }}",
    ],
)
def test_template_never_reaches_the_insides_of_python(text: str) -> None:
    with pytest.raises(TemplateError):
        expression(text).evaluate(event=EVENT)


def test_tree_is_evaluated_leaf_by_leaf_and_left_as_it_was() -> None:
    tree = {"a": "{{ event.data.size | int }}", "b": ["x-{{ event.id }}", 7], "c": None}
    compiled = CompiledTree(tree)

    assert compiled.evaluate({"event": EVENT}) == {"a": 3, "b": ["x-1", 7], "c": None}
    assert compiled.names == {"event"}
    assert tree["b"] == ["x-{{ event.id }}", 7]
    assert render_tree("{{ x }}", {"x": 1}) == 1


def test_file_reads_variables_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("from file\n")
    secrets = Secrets(tmp_path, {"MILLRACE_SECRET_MY_KEY": "from environment"})
    functions = file_functions({"HOST": "db", "KEYS": '{"a": "1"}'}, secrets)
    text = (
        "{{ env_var('HOST') }} {{ env.var('HOST') }} {{ env_var('PORT', 5432) }} {{ secret('shop') }} "
        "{{ mage_secret_var('my-key') }} {{ json_value(env_var('KEYS'), 'a') }}"
    )

    assert render_file(text, file="x.yaml", functions=functions) == "db db 5432 from file from environment 1"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("a\n{{ env_var('NOPE') }}", 2, "NOPE is not set"),
        ("{{ secret('nope') }}", 1, "set MILLRACE_SECRET_NOPE"),
        ("{{ secret('../../etc/passwd') }}", 1, "a secret's name"),
        ("\n\n{{ nothing }}", 3, "'nothing' is undefined"),
        ("{{ json_value('topsecret', 'a') }}", 1, "finds no 'a'"),
        ("{% macro f() %}{% endmacro %}", 1, "'macro' is not allowed"),
        ("{% include 'x' %}", 1, "not allowed"),
        ("{% set x %}y{% endset %}", 1, "not allowed"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", 1, "steps"),
        ("{% for i in range(99999) %}{{ 'x' * 1000000 }}{% endfor %}", 1, "4,000,000 characters"),
    ],
)
def test_file_that_cannot_be_rendered_names_its_line(
    tmp_path: Path, text: str, line: int, sentence: str
) -> None:
    with pytest.raises(TemplateError) as failed:
        render_file(text, file="x.yaml", functions=file_functions({}, Secrets(tmp_path, {})))

    assert sentence in str(failed.value)
    assert failed.value.line == line
    assert "topsecret" not in str(failed.value)


def test_sql_has_strict_names_statements_and_public_attributes() -> None:
    columns = "{% for c in columns %}{{ c }}{% if not loop.last %}, {% endif %}{% endfor %}"
    text = columns + " from t where y = {{ day.year }}"

    rendered = render_sql(text, {"columns": ["a", "b"], "day": date(2024, 1, 1)})

    assert rendered == "a, b from t where y = 2024"
    with pytest.raises(TemplateError, match="line 2: 'ds' is undefined"):
        render_sql("select\n'{{ ds }}'", {})
    with pytest.raises(TemplateError):
        render_sql("{{ day.__class__ }}", {"day": date(2024, 1, 1)})


def test_sql_is_checked_without_its_names() -> None:
    check_sql("select {{ anything }}")
    with pytest.raises(TemplateError) as failed:
        check_sql("select\n{{ 1 + }}")

    assert failed.value.line == 2


def test_secrets_stay_out_of_representations(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path, {"MILLRACE_SECRET_X": "topsecret"})

    assert "topsecret" not in repr(secrets)
    assert secrets.get("x") == "topsecret"
    with pytest.raises(SecretMissing, match="secrets folder"):
        secrets.get("y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ event.data.amount > 3 }}", True),
        ("{{ event.data.amount <= 3 }}", False),
        ("{{ event.data['kind'] == 'order' }}", True),
        ("{{ event.data.kind != 'order' }}", False),
        ("{{ (event.data.amount > 3) and true }}", True),
    ],
)
def test_comparisons_with_a_constant_are_what_they_are_in_jinja(text: str, expected: bool) -> None:
    assert expression(text).evaluate(event={"data": {"amount": 4, "kind": "order"}}) is expected


@pytest.mark.parametrize(
    "text", ["{{ event.data.nope > 3 }}", "{{ event.data.kind > 3 }}", "{{ nope == 3 }}"]
)
def test_comparison_that_cannot_be_made_says_why(text: str) -> None:
    with pytest.raises(TemplateError, match=r"nope|not supported"):
        expression(text).evaluate(event={"data": {"kind": "order"}})

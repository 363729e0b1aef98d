"""JSON Schema for bodies: what fits, where another does not, and schemas that cannot be used."""

from __future__ import annotations

import json
import socket
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.project import Project
from service.intake.body_schemas import BodySchema, BodySchemaError
from service.intake.webhook_checks import webhook_problems
from tests.parts.clockwork import write_project
from tests.parts.hooks import Hooks, running_hooks

ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "string", "pattern": "^o-"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {"line": {"type": "object", "properties": {"count": {"type": "integer", "minimum": 1}}}},
}
GOOD = {"id": "o-1", "lines": [{"count": 2}]}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def test_body_that_fits() -> None:
    assert BodySchema.compile(ORDER).misfit(GOOD) is None
    assert BodySchema.compile({"$schema": DRAFT_7, "type": "object"}).misfit({}) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "$: 'id' is a required property; $: 'lines' is a required property"),
        ({**GOOD, "id": "7"}, "$.id: '7' does not match '^o-'"),
        ({**GOOD, "lines": [{}, {"count": 0}]}, "$.lines[1].count: 0 is less than the minimum of 1"),
        (None, "$: None is not of type 'object'"),
        ("text", "$: 'text' is not of type 'object'"),
    ],
)
def test_body_that_does_not_fit_is_told_where_and_why(body: Any, words: str) -> None:
    misfit = BodySchema.compile(ORDER).misfit(body)

    assert misfit is not None
    assert words in misfit


def test_what_is_told_has_a_bound() -> None:
    body = {"id": "x" * 1_000_000, "lines": [{"count": "y" * 100_000}] * 1000}

    assert len(BodySchema.compile(ORDER).misfit(body) or "") < 2500


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "objekt"}, "no JSON Schema: $.type: 'objekt' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, "no JSON Schema: $.properties.a.minimum"),
        ({"pattern": "("}, "no JSON Schema: $.pattern"),
        ({"$schema": "https://example.com/dialect"}, "the dialect 'https://example.com/dialect' is unknown"),
        ({"$schema": 7}, "the dialect '7' is unknown"),
        (
            {"$ref": "https://example.com/schema.json"},
            "'https://example.com/schema.json', which is not in it",
        ),
        ({"items": {"$ref": "file:///etc/passwd"}}, "'file:///etc/passwd', which is not in it"),
        ({"$ref": "#/$defs/none"}, "'#/$defs/none', which is not in it"),
        ({"anyOf": [{"$dynamicRef": "#none"}]}, "'#none', which is not in it"),
    ],
)
def test_schema_that_cannot_be_used_is_told(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(BodySchemaError) as caught:
        BodySchema.compile(schema)

    assert words in str(caught.value)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(*_: object, **__: object) -> None:
        raise AssertionError("a schema opened a connection")

    monkeypatch.setattr(socket.socket, "connect", dial)
    hidden = {"$ref": "#/parts/a", "parts": {"a": {"$ref": "https://example.com/schema.json"}}}

    assert "cannot be held against" in str(BodySchema.compile(hidden).misfit({}))


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"multipleOf": 0.1}, {"anyOf": [{"$ref": "#"}, {"not": {}}]}]
)
def test_schema_that_fails_on_a_body_accepts_nothing(schema: dict[str, Any]) -> None:
    assert "cannot be held against" in str(BodySchema.compile(schema).misfit(10**400))


def test_work_has_a_bound() -> None:
    twice = {"anyOf": [{"items": {"$ref": "#"}, "minItems": 1}, {"items": {"$ref": "#"}, "minItems": 1}]}
    deep: Any = []
    for _ in range(60):
        deep = [deep]

    schema = replace(BodySchema.compile(twice), max_steps=1000)
    assert "it takes too many steps" in str(schema.misfit(deep))
    assert BodySchema.compile({"items": {"type": "integer"}}).misfit(list(range(20_000))) is None


def test_what_branches_quote_has_a_bound() -> None:
    node = {"properties": {"next": {"$ref": "#"}}}
    schema = BodySchema.compile({"anyOf": [{**node, "required": ["a"]}, {**node, "required": ["b"]}]})
    body: Any = {"blob": "x" * 100_000}
    for _ in range(12):
        body = {"next": body}

    tracemalloc.start()
    try:
        assert "it takes too many steps" in str(replace(schema, max_steps=20_000).misfit(body))
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_many_items_are_told_apart_quickly() -> None:
    schema = BodySchema.compile({"uniqueItems": True})
    items: list[Any] = [{"a": [number]} for number in range(5_000)]

    assert schema.misfit(items) is None
    assert "items that are the same" in str(schema.misfit([*items, {"a": [7.0]}]))


@pytest.mark.parametrize(
    ("items", "fits"),
    [
        ([1, True, "1", None, False, 0], True),
        ([1, 1.0], False),
        ([[], {}], True),
        ([[1], [True]], True),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
    ],
)
def test_items_are_equal_as_json_schema_says(items: list[Any], fits: bool) -> None:
    assert (BodySchema.compile({"uniqueItems": True}).misfit(items) is None) is fits


def test_a_property_may_be_called_like_a_reference() -> None:
    assert BodySchema.compile({"properties": {"$ref": {"type": "string"}}}).misfit({"$ref": "x"}) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "lines", "count"]), inner),
        max_leaves=10,
    )
)
def test_no_body_makes_it_raise(data: Any) -> None:
    assert isinstance(BodySchema.compile(ORDER).misfit(data), str | None)


# At the door

HOOKS: list[dict[str, Any]] = [
    {
        "name": "orders",
        "type": "webhook",
        "verify": "none",
        "schema": ORDER,
        "variables": {"id": "{{ event.data.id }}"},
    },
    {"name": "filed", "type": "webhook", "verify": "none", "schema": "schemas/order.json"},
    {"name": "broken", "type": "webhook", "verify": "none", "schema": {"type": "objekt"}},
]


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    folder = tmp_path / "demo" / "schemas"
    folder.mkdir(parents=True)
    (folder / "order.json").write_text(json.dumps(ORDER, indent="\t"))
    with running_hooks(tmp_path / "demo", HOOKS) as made:
        yield made


@pytest.mark.parametrize("path", ["/webhooks/etl/orders", "/webhooks/etl/filed"])
def test_misfit_is_kept_and_starts_nothing(hooks: Hooks, path: str) -> None:
    good, bad = hooks.accept(GOOD, path=path), hooks.accept({"id": 5}, path=path)

    assert good["outcome"] == "ran"
    assert (bad["outcome"], bad["run_ids"]) == ("mapping_failed", [])
    assert "$.id: 5 is not of type 'string'" in bad["reason"]
    event = hooks.event(bad["event_id"])
    assert (event.data, event.matches[0].outcome) == ({"id": 5}, "mapping_failed")
    assert len(hooks.all_runs()) == 1


def test_held_event_is_checked_when_it_is_let_go(hooks: Hooks) -> None:
    hooks.pause("orders")
    held = hooks.accept({"id": 5}, path="/webhooks/etl/orders")
    assert held["outcome"] == "held"

    hooks.dispatcher.release("demo", "etl", "orders")

    assert hooks.event(held["event_id"]).outcome == "mapping_failed"


def test_unreadable_body_stays_quarantined(hooks: Hooks) -> None:
    assert hooks.accept(b"{", path="/webhooks/etl/orders")["outcome"] == "quarantined"


def test_broken_schema_keeps_the_door_shut(hooks: Hooks) -> None:
    answer = hooks.post(GOOD, path="/webhooks/etl/broken")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "is no JSON Schema" in hooks.refusals(1)[0].reason


def test_changed_schema_file_counts_at_once(hooks: Hooks) -> None:
    (hooks.root / "schemas" / "order.json").write_text('{"type": "string"}')
    hooks.runtime.projects.refresh()

    assert hooks.accept(GOOD, path="/webhooks/etl/filed")["outcome"] == "mapping_failed"
    assert hooks.accept("an order", path="/webhooks/etl/filed")["outcome"] == "ran"


# For `millrace check`


def problems(root: Path, keys: str, **files: str) -> list[str]:
    write_project(root, f"\ntriggers:\n- name: shop\n  type: webhook\n  verify: none\n  {keys}\n")
    for name, text in files.items():
        (root / f"{name}.json").write_text(text)
    project = Project.load(root)
    found = [*project.problems, *webhook_problems(project)]
    assert {problem.file for problem in found} <= {"pipelines/taxi/triggers.yaml"}
    return [f"{problem.line}: {problem.message}" for problem in found]


@pytest.mark.parametrize("keys", ["schema: {type: object}", "schema: order.json"])
def test_good_schema_has_no_problems(tmp_path: Path, keys: str) -> None:
    assert problems(tmp_path, keys, order=json.dumps(ORDER)) == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("schema: {type: objekt}", "3: trigger 'shop': `schema` is no JSON Schema: $.type"),
        ("schema: {$ref: 'https://example.com/x'}", "never fetched"),
        ("schema: nowhere.json", "6: trigger 'shop': there is no 'nowhere.json' in the project"),
        ("schema: ../../../x.json", "6: trigger 'shop': ../../../x.json cannot be read"),
        ("schema: broken.json", "broken.json cannot be read: Expecting property name"),
        ("schema: large.json", "large.json cannot be read: it has more than 200,000 characters"),
        ("schema: list.json", "must be a JSON Schema"),
        ("schema: 5", "must be a JSON Schema"),
    ],
)
def test_bad_schema_is_told_with_file_and_line(tmp_path: Path, keys: str, words: str) -> None:
    (message,) = problems(tmp_path, keys, broken="{", large=" " * 200_001, list="[]")

    assert words in message

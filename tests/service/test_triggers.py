"""Triggers as they are compiled: options rendered, templates checked, faults kept to themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.model import Pipeline, Trigger, TriggerType
from pipelines.project import Project
from pipelines.secrets import Secrets
from sensors.event import Event
from service.intake.doors import Door, build_door
from service.matching.decisions import Circumstances, decide
from service.matching.limiting import run_limits
from service.matching.rendering import Rendering
from service.matching.triggers import CompiledTrigger, compile_trigger, compile_triggers
from service.store.values import Limit, NewMatch, Outcome
from tests.parts.hooks import BLOCK
from tests.parts.projects import write_pipeline, write_project

NOW = datetime(2024, 3, 1, tzinfo=UTC)
ENVIRON = {"LAKE": "bucket", "MILLRACE_SECRET_SHOP": "s3cret"}
RENDERING = Rendering(ENVIRON, Secrets(None, ENVIRON))


def compiled(type_: TriggerType = TriggerType.WEBHOOK, **spec: Any) -> CompiledTrigger:
    trigger = Trigger("etl", "t", type_, spec, file="pipelines/etl/triggers.yaml")
    return compile_trigger("demo", Pipeline("etl", "metadata.yaml", ()), trigger, RENDERING)


def door(**spec: Any) -> Door:
    return build_door(compiled(**spec), token_of=lambda _: "own-token", max_body_bytes=1000)


def decided(data: Any = None, **spec: Any) -> NewMatch:
    event = Event("webhook:etl/t", "k", "webhook.received", NOW, data=data)
    return decide(compiled(**spec), event, Circumstances("e1", NOW))


def variables(data: Any = None, **spec: Any) -> Mapping[str, Any]:
    match = decided(data, **spec)
    assert match.run is not None, match.reason
    return match.run.variables


def test_options_are_rendered_and_stay_out_of_representations() -> None:
    made = compiled(
        TriggerType.SENSOR, options={"bucket": "{{ env_var('LAKE') }}", "deep": ["{{ secret('shop') }}"]}
    )

    assert made.options == {"bucket": "bucket", "deep": ["s3cret"]}
    assert "s3cret" not in repr(made)


def test_secret_that_is_missing_is_a_fault_of_this_trigger_only(tmp_path: Path) -> None:
    write_project(tmp_path)
    write_pipeline(
        tmp_path,
        "etl",
        [BLOCK],
        triggers=[
            {"name": "a", "type": "webhook", "verify": {"scheme": "token", "secret": "{{ secret('gone') }}"}},
            {"name": "b", "type": "webhook"},
            {"name": "c", "type": "webhook", "enabled": False},
        ],
    )

    made = compile_triggers(Project.load(tmp_path), environ=ENVIRON, secrets=Secrets(None, ENVIRON))

    assert set(made) == {("etl", "a"), ("etl", "b")}
    fault = str(made["etl", "a"].fault)
    assert (
        f"{made['etl', 'a'].trigger.file}:{made['etl', 'a'].trigger.line}: the secret 'gone' is not set"
        in fault
    )
    assert made["etl", "b"].fault is None


@pytest.mark.parametrize("text", ["event.data.size > 0", "{{ event.data.a }} and {{ event.data.b }}"])
def test_filter_that_is_always_true_is_a_fault(text: str) -> None:
    assert "`filter` must be one {{ expression }}" in str(compiled(filter=text).fault)


def test_constant_filters() -> None:
    assert decided(filter=True).outcome is Outcome.RAN
    assert decided(filter=False).outcome is Outcome.FILTERED


def test_event_of_a_trigger_with_a_fault_fails_its_mapping() -> None:
    match = decided(filter="{{ nonsense(( }}")

    assert match.outcome is Outcome.MAPPING_FAILED
    assert "trigger 't' of 'etl' cannot work" in str(match.reason)


def test_variables_keep_their_types_and_times_become_text() -> None:
    found = variables(
        {"n": 1, "list": [1.5, None]},
        variables={
            "n": "{{ event.data.n }}",
            "list": "{{ event.data.list }}",
            "at": "{{ event.time }}",
            "fixed": 7,
        },
    )

    assert found == {"n": 1, "list": [1.5, None], "at": "2024-03-01T00:00:00Z", "fixed": 7}


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ event.data.gone }}", "gone"),
        ("{{ event.data.n / 0 }}", "failed"),
        ("{{ event.data.text | float }}", "variable 'v' is nan, which JSON cannot hold"),
        ("{{ '\\x00' }}", "NUL"),
    ],
)
def test_variable_that_cannot_be_made_fails_the_mapping(template: str, reason: str) -> None:
    match = decided({"n": 1, "text": "nan"}, variables={"v": template})

    assert match.outcome is Outcome.MAPPING_FAILED
    assert reason in str(match.reason)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024-01-31T05:00:00+01:00", datetime(2024, 1, 31, 4, tzinfo=UTC)),
        ("2024-01-31T05:00:00Z", datetime(2024, 1, 31, 5, tzinfo=UTC)),
        (1706677200, datetime(2024, 1, 31, 5, tzinfo=UTC)),
    ],
)
def test_execution_date_is_read_from_text_and_unix_seconds(value: Any, expected: datetime) -> None:
    match = decided({"at": value}, execution_date="{{ event.data.at }}")

    assert match.run is not None
    assert match.run.execution_date == expected


def test_door_without_verify_takes_the_triggers_own_token() -> None:
    assert "own-token" not in repr(door())
    assert door().fault is None


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"path": "/elsewhere"}, "`path` must be below /webhooks/"),
        ({"rate": "often"}, "`rate` must be like 100/minute"),
        ({"format": "avro"}, "`format` must be one of auto, json, form, text"),
        ({"queue_limit": 0}, "`queue_limit` must be a whole number above 0"),
        ({"max_body": "big"}, "`max_body` must be a whole number above 0"),
        ({"verify": {"scheme": "hmac", "secret": "x"}}, "it needs `header`"),
        ({"verify": "magic"}, "`scheme` must be one of none, token, basic, hmac, standard_webhooks"),
    ],
)
def test_door_that_cannot_work_says_why(spec: dict[str, Any], fault: str) -> None:
    found = door(**spec).fault

    assert found is not None
    assert found.startswith("webhook 't' of 'etl' cannot work: ")
    assert fault in found


def test_limits_of_pipeline_and_trigger_go_with_the_run() -> None:
    pipeline = Pipeline("etl", "metadata.yaml", (), run_limit=3)
    trigger = Trigger("etl", "t", TriggerType.WEBHOOK, {"concurrency": {"limit": 2, "when_full": "queue"}})

    made = compile_trigger("demo", pipeline, trigger, RENDERING)

    assert made.limits_of({}) == (Limit("pipeline:demo/etl", 3), Limit("trigger:demo/etl/t", 2))
    assert run_limits("demo", pipeline) == made.limits

"""The key `cloudevents` of a project's `metadata.yaml`, and what `millrace check` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.model import Problem, Severity
from pipelines.project import Project
from service.intake.cloudevents_checks import cloudevents_problems

GOOD = """name: shop
cloudevents:
  verify: {scheme: standard_webhooks, secret: "{{ secret('partner') }}"}
  rate: 10/minute
  max_body: 1000
  origins: [Events.Example.com]
  send:
  - name: ops
    url: https://hooks.example.com/x
    secrets: ["{{ secret('a') }}", "{{ secret('b') }}"]
    events: run.failed
    pipelines: [taxi]
  - url: "{{ env_var('HOOK_URL') }}"
    secret: "{{ secret('a') }}"
"""


def load(root: Path, text: str, triggers: str = "") -> Project:
    (root / "pipelines" / "taxi").mkdir(parents=True, exist_ok=True)
    (root / "metadata.yaml").write_text(text)
    (root / "pipelines" / "taxi" / "metadata.yaml").write_text("name: taxi\nblocks: []\n")
    if triggers:
        (root / "pipelines" / "taxi" / "triggers.yaml").write_text(triggers)
    return Project.load(root)


def problems(project: Project) -> list[Problem]:
    found = (*project.problems, *cloudevents_problems(project))
    return [one for one in found if "has no blocks" not in one.message]


def test_all_keys_are_read(tmp_path: Path) -> None:
    project = load(tmp_path, GOOD)

    assert problems(project) == []
    read = project.cloudevents
    assert (read.rate, read.max_body, read.origins, read.line) == (
        "10/minute",
        1000,
        ("events.example.com",),
        2,
    )
    first, second = read.send
    assert (first.name, first.events, first.pipelines, first.line) == ("ops", ("run.failed",), ("taxi",), 8)
    assert (second.name, second.events) == ("send-2", ("run.succeeded", "run.failed"))
    assert first.wants("run.failed", "taxi")
    assert not first.wants("run.failed", "orders")
    assert not first.wants("run.succeeded", "taxi")
    assert "secret" not in repr(read)


def test_without_the_key_nobody_may_send(tmp_path: Path) -> None:
    assert load(tmp_path, "name: shop\n").cloudevents.verify is None


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        ("verify: hmack", 3, "did you mean 'hmac'"),
        ("verify: token", 3, "needs a `secret` here"),
        ("verify: {scheme: hmac, secret: \"{{ secret('a') }}\"}", 2, "header"),
        ("rate: often", 2, "100/minute"),
        ("max_body: none", 3, "whole number"),
        ("send: {url: x}", 3, "must be a list"),
        ("sent: []", 3, "unknown key 'sent'"),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path: Path, lines: str, line: int, told: str) -> None:
    verify = "" if lines.startswith("verify") else "\n  verify: none"
    (found,) = problems(load(tmp_path, f"name: shop\ncloudevents:\n  {lines}{verify}\n"))

    assert (found.file, found.line) == ("metadata.yaml", line)
    assert told in found.message


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("{secret: \"{{ secret('a') }}\"}", "has no `url`"),
        ("{url: 'ftp://example.com', secret: \"{{ secret('a') }}\"}", "must be like https://"),
        ("{url: 'https://me:pw@example.com', secret: \"{{ secret('a') }}\"}", "user or password"),
        ("{url: 'https://example.com:99999/', secret: \"{{ secret('a') }}\"}", "cannot be read"),
        ("{url: 'https://exämple.com', secret: \"{{ secret('a') }}\"}", "plain ASCII"),
        ("{url: 'http://example.com', secret: \"{{ secret('a') }}\"}", "unencrypted"),
        ("{url: 'https://example.com'}", "needs a `secret`"),
        ("{url: 'https://example.com', secret: abc}", "whsec_"),
        ("{url: 'https://example.com', secret: whsec_abc}", "stands in the file as it is"),
        (
            "{url: 'https://example.com', secret: \"{{ secret('a') }}\", events: [run.faild]}",
            "did you mean 'run.failed'",
        ),
        (
            "{url: 'https://example.com', secret: \"{{ secret('a') }}\", pipelines: [taxis]}",
            "no pipeline 'taxis'",
        ),
        ("{url: 'https://example.com', secret: \"{{ secret('a') }}\", event: [x]}", "unknown key 'event'"),
        ('{url: "{{ event.x }}", secret: "{{ secret(\'a\') }}"}', "not known there"),
    ],
)
def test_addresses_that_cannot_be_sent_to(tmp_path: Path, keys: str, told: str) -> None:
    (found,) = problems(load(tmp_path, f"name: shop\ncloudevents:\n  send:\n  - {keys}\n"))

    assert (found.file, found.line) == ("metadata.yaml", 4)
    assert told in found.message


def test_one_name_is_one_address(tmp_path: Path) -> None:
    one = "{name: ops, url: 'https://example.com', secret: \"{{ secret('a') }}\"}"
    project = load(tmp_path, f"name: shop\ncloudevents:\n  send:\n  - {one}\n  - {one}\n")

    assert [(found.line, "line 4 has this name" in found.message) for found in problems(project)] == [
        (5, True)
    ]
    assert len(project.cloudevents.send) == 1


def test_types_that_the_ledger_has_under_another_name(tmp_path: Path) -> None:
    triggers = "triggers:\n- {name: t, type: event, event: google.cloud.storage.object.v1.finalized}\n"

    (found,) = problems(load(tmp_path, "name: shop\n", triggers))

    assert (found.severity, found.line) == (Severity.WARNING, 2)
    assert "'object.finalized'" in found.message


def test_end_of_a_pipeline_that_is_not_there(tmp_path: Path) -> None:
    triggers = "triggers:\n- {name: t, type: event, event: run.failed, source: run:taxis}\n"

    (found,) = problems(load(tmp_path, "name: shop\n", triggers))

    assert (found.severity, found.line) == (Severity.WARNING, 2)
    assert "no pipeline 'taxis'" in found.message

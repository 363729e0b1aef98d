"""`check` finds what would keep the door of a webhook shut, before any delivery does."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.project import Project
from service.intake.webhook_checks import webhook_problems
from tests.parts.clockwork import write_project

PROVIDERS = ("github", "stripe", "slack", "shopify", "gitlab", "twilio")
SECRET = "secret: \"{{ secret('shop') }}\""


def problems(root: Path, keys: str) -> list[str]:
    write_project(root, f"\ntriggers:\n- name: shop\n  type: webhook\n  {keys}\n")
    found = webhook_problems(Project.load(root))
    assert all((problem.file, problem.line) == ("pipelines/taxi/triggers.yaml", 3) for problem in found)
    return [problem.message for problem in found]


@pytest.mark.parametrize(
    "keys",
    [
        "rate: 100/minute",
        "format: json",
        "verify: none",
        "verify: token",
        f"verify: {{scheme: token, {SECRET}, header: X-Token}}",
        f"verify: {{scheme: standard_webhooks, {SECRET}}}",
        f"verify: {{scheme: hmac, {SECRET}, header: X-Sign, secret_encoding: hex, content: 'v0:{{body}}'}}",
        f"verify: {{scheme: hmac, secrets: [{{{SECRET}, not_after: 2030-01-31}}], header: X-Sign}}",
        "verify: {scheme: hmac, secret: x, header: \"{{ env_var('HEADER') }}\", algorithm: md5}",
        *(f"verify: {{scheme: {name}, {SECRET}}}" for name in PROVIDERS),
        f"verify: {{scheme: gitlab, secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, x], {SECRET}}}",
        f"verify: {{scheme: twilio, {SECRET}, url: 'https://hooks.example.com/sms'}}",
        f"verify: {{scheme: basic, {SECRET}, username: partner}}",
        "verify: {scheme: google_oidc, audience: 'https://hooks.example.com', email: a@b.example}",
        "allow: [192.0.2.0/24, '2001:db8::1']",
        "required_headers: [X-Topic]",
    ],
)
def test_good_webhook_has_no_problems(tmp_path: Path, keys: str) -> None:
    assert problems(tmp_path, keys) == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("rate: fast", "`rate` must be like 100/minute, not 'fast'"),
        ("format: xml", "`format` must be one of auto, json, form, text"),
        (f"verify: {{scheme: hmac, {SECRET}}}", "`verify`: it needs `header`"),
        (f"verify: {{scheme: hmac, {SECRET}, header: X-Sign, algorithm: md5}}", "`algorithm` must be one of"),
        (f"verify: {{scheme: hmac, {SECRET}, header: X-Sign, content: x}}", "must contain {body}"),
        (f"verify: {{scheme: hmac, {SECRET}, header: X-Sign, allow: [here]}}", "addresses or networks"),
        (f"verify: {{scheme: stripe, {SECRET}, tolerance: 0}}", "`verify`: `tolerance` must be a number"),
        (f"verify: {{scheme: twilio, {SECRET}, url: hooks.example.com}}", "`url` must be the public address"),
        (f"verify: {{scheme: basic, {SECRET}}}", "`verify`: it needs `username`"),
        ("verify: google_oidc", "`verify`: it needs `audience`"),
        ("verify: {scheme: google_oidc, audience: a}", "`verify`: it needs `email`"),
        ("verify: {scheme: gitlab, secret: 'whsec_!'}", "a secret is not base64"),
        (f"verify: {{scheme: github, {SECRET}, allow: [here]}}", "addresses or networks"),
        ("allow: here", "addresses or networks"),
        (f"verify: {{scheme: token, {SECRET}, header: 5}}", "`header` and `query` must be names"),
        (f"verify: {{scheme: standard_webhooks, {SECRET}, tolerance: x}}", "`tolerance` must be a number"),
        ("verify: {scheme: standard_webhooks, secret: 'whsec_!'}", "a secret is not base64"),
        (
            "verify: {scheme: hmac, secrets: [{secret: x, not_after: soon}], header: X-Sign}",
            "`not_after` must",
        ),
    ],
)
def test_what_keeps_a_door_shut_is_told_with_file_and_line(tmp_path: Path, keys: str, words: str) -> None:
    (message,) = problems(tmp_path, keys)

    assert message.startswith("trigger 'shop': ")
    assert words in message

"""Reads a project's `cloudevents`: who may post events to it, and who is told of the ends of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from pipelines.model import RUN_EVENTS, Address, CloudEvents
from pipelines.parse_fields import Section, closest, words
from pipelines.parse_templates import check_template, check_values
from pipelines.parse_verify import FILE_NAMES, read_verify
from pipelines.templating import is_template

_KEYS = words("verify rate max_body origins send")
_SEND_KEYS = words("name url secret secrets events pipelines allow_private")
_EVENTS = ("run.succeeded", "run.failed")  # what an address gets that does not say
SECRET_PREFIXES = ("whsec_", "whsk_")


def read_cloudevents(project: Section) -> CloudEvents:
    """Read the key of the project's `metadata.yaml`. What is wrong goes to the findings and is left out."""
    section = project.section("cloudevents", "cloudevents")
    section.unknown_keys("project's cloudevents", _KEYS)
    verify = _verify(section)
    return CloudEvents(
        verify=verify,
        rate=section.text("rate") or None,
        max_body=section.count("max_body", least=1),
        origins=tuple(origin.lower() for origin in section.texts("origins")),
        send=tuple(_addresses(section)),
        line=project.line("cloudevents"),
    )


def _verify(section: Section) -> str | dict[str, object] | None:
    before = section.findings.error_count
    verify = read_verify(section)
    if verify is None and "verify" in section and section.findings.error_count == before:
        section.error("verify", "`verify: token` needs a `secret` here; nobody makes one for a project")
    return verify if section.findings.error_count == before else None


def _addresses(section: Section) -> Sequence[Address]:
    found: list[Address] = []
    lines: dict[str, int] = {}
    for number, one in enumerate(section.sections("send", "an address of `send`"), start=1):
        before = one.findings.error_count
        address = _address(one, number)
        if address.name in lines:
            one.error("name", f"line {lines[address.name]} has this name already; rename one of them")
        lines.setdefault(address.name, address.line)
        if one.findings.error_count == before:
            found.append(address)
    return found


def _address(section: Section, number: int) -> Address:
    name = section.text("name") or f"send-{number}"
    section.what = f"the address '{name}' of `send`"
    section.unknown_keys("address of `send`", _SEND_KEYS)
    _check_url(section)
    return Address(
        name=name,
        url=section.text("url"),
        secrets=_secrets(section),
        events=_events(section),
        pipelines=section.texts("pipelines"),
        allow_private=section.boolean("allow_private", default=False),
        line=section.line(),
    )


def _check_url(section: Section) -> None:
    url = section.text("url")
    if not url:
        section.error("url", "it has no `url`; give it the address that events are posted to")
        return
    check_template(section, "url", FILE_NAMES)
    if is_template(url):
        return
    fault = url_fault(url)
    if fault is not None:
        section.error("url", f"`url` {fault}")
    elif url.startswith("http:") and not section.boolean("allow_private", default=False):
        section.warning("url", "events go there unencrypted; write https")


def url_fault(url: str) -> str | None:
    """Say why nothing can be posted to the URL; None when it can be tried."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "cannot be read"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be like https://example.com/path"
    if "@" in parts.netloc:
        return "must not hold a user or password; receivers check the signature"
    if not url.isascii() or any(char <= " " for char in url):
        return "must be plain ASCII; write other characters percent-encoded"
    return None


def _events(section: Section) -> tuple[str, ...]:
    events = section.texts("events") or _EVENTS
    for event in events:
        if event not in RUN_EVENTS:
            hint = closest(event, RUN_EVENTS)
            section.error("events", f"'{event[:60]}' is not sent (known: {', '.join(RUN_EVENTS)}){hint}")
    return events


def _secrets(section: Section) -> tuple[str, ...]:
    one = section.text("secret")
    secrets = (*((one,) if one else ()), *section.texts("secrets"))
    key = "secret" if one else "secrets"
    if not secrets:
        hint = "{{ secret('...') }}"
        section.error("url", f'it needs a `secret` (or `secrets`) to sign with; write secret: "{hint}"')
    check_values(section, key, FILE_NAMES)
    plain = [secret for secret in secrets if not is_template(secret)]
    if any(not secret.startswith(SECRET_PREFIXES) for secret in plain):
        section.error(key, f"a secret must begin with {' or '.join(SECRET_PREFIXES)} (Standard Webhooks)")
    elif plain:
        section.warning(key, "a secret stands in the file as it is; write {{ secret('name') }} in its place")
    return secrets

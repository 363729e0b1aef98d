"""Triggers in our own keys and in Mage's, and every way to write them wrongly."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from pipelines.model import Severity, Trigger, TriggerType
from pipelines.parse_fields import Findings
from pipelines.parse_triggers import read_triggers


def read(text: str) -> tuple[list[Trigger], list[tuple[int, str]]]:
    findings = Findings("triggers.yaml", "taxi")
    triggers = read_triggers("taxi", dedent(text), findings)
    return list(triggers.good), [(problem.line, problem.message) for problem in findings.problems]


OURS = """\
triggers:
- name: month_landed
  type: sensor
  sensor: files
  options: {path: "{{ env_var('LAKE') }}", pattern: "*.parquet"}
  every: 30s
  existing: {since: 2024-01-01}
  filter: "{{ event.data.size | int > 0 }}"
  variables: {object: "{{ event.data.name }}"}
  execution_date: "{{ event.time }}"
  concurrency: {limit: 2, when_full: queue}
- name: from_shop
  type: webhook
  path: /webhooks/shop
  verify: {scheme: standard_webhooks, secret: "{{ secret('shop') }}"}
  key: "{{ event.headers['webhook-id'] }}"
  rate: 10/second
- name: open
  type: webhook
  verify: none
- name: own_token
  type: webhook
  verify: token
- name: nightly
  type: schedule
  cron: "0 5 * * *"
  timezone: Europe/Berlin
  catch_up: latest
  start: 2024-01-31 05:00:00
  variables: {day: 2024-01-01}
- name: after_taxi
  type: event
  event: run.succeeded
  filter: "{{ event.data.pipeline == 'taxi' }}"
  enabled: false
"""


def test_our_triggers_are_read_in_their_normal_form() -> None:
    triggers, problems = read(OURS)
    spec = {trigger.name: trigger.spec for trigger in triggers}

    assert problems == []
    assert [trigger.line for trigger in triggers] == [2, 12, 18, 21, 24, 31]
    assert spec["month_landed"]["existing"] == {"since": "2024-01-01T00:00:00Z"}
    assert spec["month_landed"]["variables"] == {"object": "{{ event.data.name }}"}
    assert spec["from_shop"]["verify"] == {"scheme": "standard_webhooks", "secret": "{{ secret('shop') }}"}
    assert spec["open"]["verify"] == "none"
    assert "verify" not in spec["own_token"]
    assert spec["nightly"]["start"] == "2024-01-31T05:00:00Z"
    assert spec["nightly"]["variables"] == {"day": "2024-01-01"}
    assert [trigger.enabled for trigger in triggers] == [True] * 5 + [False]
    json.dumps(spec)


MAGE = """\
triggers:
- name: daily
  pipeline_uuid: taxi
  schedule_type: time
  schedule_interval: '@weekly'
  start_time: 2024-01-01 00:00:00
  status: active
  last_enabled_at: null
  variables: {color: yellow}
  sla: 600
  settings: {skip_if_previous_running: true, allow_blocks_to_fail: false, landing_time_enabled: false}
  envs: []
  description: null
  token: null
- name: hook
  schedule_type: api
  schedule_interval: null
  start_time: null
  status: active
  variables: {}
  sla: null
  settings: {}
  envs: [dev]
  token: 0123456789abcdef
- name: fresh_hook
  schedule_type: api
  status: active
- {name: once, schedule_type: time, schedule_interval: '@once', status: inactive}
"""


def test_triggers_of_mage_are_translated() -> None:
    triggers, problems = read(MAGE)
    daily, hook, fresh, once = triggers

    assert (daily.type, daily.mage, daily.enabled) == (TriggerType.SCHEDULE, True, True)
    assert daily.spec == {
        "cron": "0 0 * * 1",
        "timezone": "UTC",
        "catch_up": "latest",
        "start": "2024-01-01T00:00:00Z",
        "variables": {"color": "yellow"},
        "sla": 600,
        "settings": {
            "skip_if_previous_running": True,
            "allow_blocks_to_fail": False,
            "landing_time_enabled": False,
        },
        "concurrency": {"limit": 1, "when_full": "skip"},
    }
    assert (hook.type, hook.enabled) == (TriggerType.WEBHOOK, False)
    assert hook.spec == {"verify": {"scheme": "token", "secret": "0123456789abcdef"}}
    assert (fresh.enabled, fresh.spec) == (True, {"verify": {"scheme": "token"}})
    assert (once.enabled, once.spec["cron"]) == (False, "@once")
    assert sorted(line for line, _ in problems) == [10]  # what is not applied yet


@pytest.mark.parametrize(
    ("trigger", "sentence"),
    [
        ("{type: webhook}", "it has no `name`"),
        ("{name: t}", "it has no `type`"),
        ("{name: t, type: cron}", "the type 'cron' is unknown"),
        ("{name: a/b, type: webhook}", "part of its address"),
        ("{name: t, type: webhook, path: /other}", "begin with /webhooks/"),
        ("{name: t, type: webhook, path: /webhooks/../x}", "begin with /webhooks/"),
        ("{name: t, type: webhook, path: /webhooks/a//b}", "begin with /webhooks/"),
        ("{name: t, type: webhook, filter: event.data.x}", "one expression in braces"),
        ("{name: t, type: webhook, filter: 'x {{ event.id }}'}", "text beside it would always count as true"),
        ("{name: t, type: webhook, variables: {x: '{{ event.data'}}", "`variables.x`"),
        ("{name: t, type: webhook, variables: {x: {y: ['{{ evnt }}']}}}", "`variables.x.y.0` uses evnt"),
        ("{name: t, type: webhook, variables: {x: '{% if 1 %}{% endif %}'}}", "statements are not allowed"),
        ("{name: t, type: webhook, variables: {ds: x}}", "'ds' in `variables` never reaches a block"),
        ("{name: t, type: webhook, execution_date: tomorrow}", "`execution_date` must be a time"),
        ("{name: t, type: webhook, key: '{{ event.headers[ }}'}", "is wrong"),
        ("{name: t, type: webhook, verify: {scheme: hmac}}", "needs a `secret`"),
        ("{name: t, type: webhook, verify: {scheme: token, header: x}}", "needs a `secret`"),
        ("{name: t, type: webhook, verify: {secret: x}}", "has no `scheme`"),
        ("{name: t, type: webhook, verify: hmca}", "did you mean 'hmac'"),
        ("{name: t, type: webhook, verify: github}", "needs a `secret`"),
        ("{name: t, type: webhook, verify: {scheme: hmac, secret: plain}}", "stands in the file as it is"),
        (
            "{name: t, type: webhook, verify: {scheme: token, secret: x, allw: y}}",
            "unknown key 'allw' of a verify",
        ),
        ("{name: t, type: webhook, max_body: big}", "`max_body` must be a whole number"),
        ("{name: t, type: schedule}", "needs `cron` or `every`"),
        ("{name: t, type: schedule, cron: '* * * * *', every: 1m}", "and not both"),
        ("{name: t, type: schedule, cron: '61 * * * *'}", "is wrong"),
        ("{name: t, type: schedule, cron: '0 0 30 2 *'}", "cron"),
        ("{name: t, type: schedule, every: 0s}", "`every`"),
        ("{name: t, type: schedule, every: 1m, timezone: Mars/Base}", "time zone 'Mars/Base' is unknown"),
        ("{name: t, type: schedule, every: 1m, timezone: ../../etc/passwd}", "is unknown"),
        ("{name: t, type: schedule, every: 1m, start: soon}", "`start` must be a time"),
        ("{name: t, type: schedule, every: 1m, catch_up: some}", "`catch_up` must be one of"),
        ("{name: t, type: sensor}", "it has no `sensor`"),
        ("{name: t, type: sensor, sensor: filez}", "did you mean 'files'"),
        ("{name: t, type: sensor, sensor: files, existing: some}", "`existing` must be"),
        ("{name: t, type: event}", "it has no `event`"),
        ("{name: t, type: webhook, settle: {}}", "it needs `quiet`"),
        ("{name: t, type: webhook, settle: {quiet: soon}}", "is no span of time"),
        ("{name: t, type: webhook, settle: {quiet: 2m, max_wait: 1m}}", "must not be shorter than `quiet`"),
        ("{name: t, type: webhook, settle: {quiet: 1m, max_count: 20000}}", "at most 10,000"),
        (
            "{name: t, type: webhook, settle: {quiet: 1m, min_count: 3, max_count: 2}}",
            "more than `max_count`",
        ),
        ("{name: t, type: webhook, settle: {quiet: 1m, min_count: 1001}}", "more than `max_count`"),
        ("{name: t, type: webhook, settle: {quiet: 1m, group: '{{ evnt }}'}}", "`group` uses evnt"),
        ("{name: t, type: webhook, settle: {quiet: 1m, qiet: 1m}}", "did you mean 'quiet'"),
        ("{name: t, type: webhook, throttle: {per: 1m}}", "it needs `limit`"),
        ("{name: t, type: webhook, throttle: {limit: 1}}", "it needs `per`"),
        ("{name: t, type: webhook, throttle: {limit: 1, per: 40d}}", "at most 31d"),
        ("{name: t, type: webhook, throttle: {limit: 1, per: 1m, when_full: cancel_running}}", "queue, skip"),
        ("{name: t, type: webhook, priority: high}", "`priority` must be a whole number"),
        ("{name: t, type: webhook, priority: 5000}", "from -1000 to 1000"),
        ("{name: t, type: webhook, while_paused: lose}", "`while_paused` must be one of keep, drop"),
        ("{name: t, type: webhook, concurrency: {limit: 0}}", "1 or more"),
        ("{name: t, type: webhook, concurrency: {when_full: queue}}", "it needs `limit`"),
        ("{name: t, type: webhook, concurrency: {limit: 1, when_full: wait}}", "`when_full` must be one of"),
        ("{name: t, type: webhook, concurrency: {limit: 1, key: '{{ event. }}'}}", "is wrong"),
        ("{name: t, type: event, event: run.succeeded}", "the end of its own pipeline's runs as well"),
        ("{name: t, type: event, event: run.succeed}", "did you mean 'run.succeeded'"),
        ("{name: t, schedule_type: api, sla: 60}", "`sla` is not applied yet"),
        ("{name: t, schedule_type: time, schedule_interval: hourly}", "is wrong"),
        ("{name: t, schedule_type: time}", "never fires"),
        ("{name: t, schedule_type: tiem}", "did you mean 'time'"),
        ("{name: t, type: webhook, cron: '* * * * *'}", "unknown key 'cron' of a webhook trigger"),
        ("t", "must be a mapping"),
    ],
)
def test_wrong_trigger_is_told(trigger: str, sentence: str) -> None:
    _, problems = read(f"triggers:\n- {trigger}\n")

    assert any(line == 2 and sentence in message for line, message in problems), problems


def test_day_of_a_schedule_of_mage_may_be_a_question_mark() -> None:
    triggers, problems = read(
        "triggers:\n- {name: first, schedule_type: time, schedule_interval: '0 6 1 * ?'}\n"
        "- {name: mondays, schedule_type: time, schedule_interval: '0 6 ? * 1'}\n"
    )

    assert problems == []
    assert [trigger.spec["cron"] for trigger in triggers] == ["0 6 1 * *", "0 6 * * 1"]


@pytest.mark.parametrize("interval", ["", "schedule_interval: null, ", "schedule_interval: '', "])
def test_time_trigger_of_mage_without_an_interval_is_left_out_without_an_error(interval: str) -> None:
    findings = Findings("triggers.yaml")
    text = f"triggers:\n- {{name: GLOBAL_DATA_PRODUCT_TRIGGER, {interval}schedule_type: time}}\n"

    found = read_triggers("taxi", text, findings)

    assert (found.good, found.broken) == ((), frozenset())
    assert [problem.severity for problem in findings.problems] == [Severity.WARNING]


def test_second_trigger_of_a_name_is_told_even_when_the_first_is_broken() -> None:
    triggers, problems = read(
        "triggers:\n- {name: a, type: nope}\n- {name: a, type: webhook}\n- {name: b, type: webhook}\n"
    )

    assert [trigger.name for trigger in triggers] == ["b"]
    assert [line for line, _ in problems] == [2, 3]
    assert "taken by the trigger in line 2" in problems[1][1]


@pytest.mark.parametrize("text", ["triggers: [\n", "triggers: {a: b}\n", "- a\n"])
def test_file_without_a_list_of_triggers_is_unreadable(text: str) -> None:
    findings = Findings("triggers.yaml")

    assert read_triggers("taxi", text, findings).is_readable is False
    assert findings.error_count == 1

"""Times in `triggers.yaml`: names of cron expressions, bounds, ends, and expectations."""

from __future__ import annotations

import pytest

from tests.pipelines.test_triggers_yaml import read


@pytest.mark.parametrize(
    ("interval", "cron"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * 1"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@once", "@once"),
        ("@always_on", "@always_on"),
        ("30 4 * JAN-MAR mon", "30 4 * JAN-MAR mon"),
        ("0 5 * * * 30", "30 0 5 * * *"),  # Mage's seconds come last
    ],
)
def test_interval_of_mage_is_ours(interval: str, cron: str) -> None:
    (trigger,), problems = read(
        f"triggers: [{{name: t, schedule_type: time, schedule_interval: '{interval}', status: active}}]"
    )

    assert (trigger.spec["cron"], trigger.enabled, problems) == (cron, True, [])


@pytest.mark.parametrize(
    "keys",
    [
        "cron: '@daily'",
        "cron: '0 5 L jan,mar mon-fri', timezone: Europe/Berlin",
        "cron: '@once', start: 2026-01-01",
        "cron: '@always_on'",
        "every: 1h, catch_up: {all: 500}, end: 2026-01-01T00:00:00Z",
    ],
)
def test_schedule_is_read(keys: str) -> None:
    triggers, problems = read(f"triggers: [{{name: t, type: schedule, {keys}}}]")

    assert (len(triggers), problems) == (1, [])


def test_expectation_is_read_into_its_normal_form() -> None:
    (trigger,), problems = read(
        """
triggers:
- name: t
  type: expectation
  expect: {event: object.finalized, filter: "{{ event.data.size > 0 }}"}
  by: "07:05"
  days: mon-fri
  timezone: Europe/Berlin
  within: 24h
  count: 20
  size: 1.5 GiB
"""
    )

    assert problems == []
    assert (trigger.spec["cron"], trigger.spec["size"]) == ("5 7 * * mon-fri", 1610612736)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("type: schedule, every: 1m, catch_up: {some: 3}", "how many ticks may run at once"),
        ("type: schedule, every: 1m, catch_up: {all: 0}", "must be a whole number"),
        ("type: schedule, every: 1m, catch_up: {all: 1000000}", "at most 10000 ticks"),
        ("type: schedule, every: 1m, start: 2026-02-01, end: 2026-01-01", "`end` is before `start`"),
        ("type: schedule, every: 1m, end: never", "`end` must be a time"),
        ("type: schedule, cron: '@fortnightly'", "is wrong"),
        ("type: schedule, cron: '@once', catch_up: all", "has no effect"),
        ("type: expectation, every: 1h", "it needs `expect`"),
        ("type: expectation, every: 1h, expect: {}", "needs one of `event`, `source` and `trigger`"),
        ("type: expectation, every: 1h, expect: {evnt: x}", "did you mean 'event'"),
        ("type: expectation, every: 1h, expect: {event: x, filter: size}", "one expression in braces"),
        ("type: expectation, expect: {event: x}", "needs `by`, `cron` or `every`"),
        ("type: expectation, expect: {event: x}, by: '07:00', every: 1h", "only one of them"),
        ("type: expectation, expect: {event: x}, by: '25:00'", "a time of the day in quotes"),
        ("type: expectation, expect: {event: x}, by: '07:00', days: someday", "is wrong"),
        ("type: expectation, expect: {event: x}, every: 1h, days: mon", "`days` goes with `by`"),
        ("type: expectation, expect: {event: x}, cron: '@once'", "has no deadlines"),
        ("type: expectation, expect: {event: x}, every: 1h, size: huge", "is no size"),
        ("type: expectation, expect: {event: x}, every: 1h, count: 0", "`count` must be a whole number"),
    ],
)
def test_wrong_times_are_told(keys: str, sentence: str) -> None:
    _, problems = read(f"triggers:\n- {{name: t, {keys}}}\n")

    assert any(line == 2 and sentence in message for line, message in problems), problems

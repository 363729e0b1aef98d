"""Reads how many runs may go on, at once and in a span of time, and how events are gathered into batches."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.parse_fields import Section
from pipelines.parse_templates import TRIGGER_NAMES, check_template

WHEN_FULL = ("queue", "skip", "cancel_running")
WHEN_OVER = ("queue", "skip")  # of a throttle: what runs already does not count
WHILE_PAUSED = ("keep", "drop")
TIMEOUT_STATUSES = ("failed", "cancelled")  # how a run over its time ends
MOST_IN_BATCH = 10_000
USUAL_BATCH = 1000  # where `max_count` is not given
LARGEST_PRIORITY = 1000
LONGEST_WINDOW_DAYS = 31


def check_limits(section: Section) -> None:
    """Report what is wrong with the keys of a trigger that hold its events or its runs back."""
    if "settle" in section:
        _check_settle(section.section("settle", f"{section.what}, settle"))
    if "concurrency" in section:
        _check_concurrency(section.section("concurrency", f"{section.what}, concurrency"))
    if "throttle" in section:
        check_throttle(section.section("throttle", f"{section.what}, throttle"), with_key=True)
    _check_priority(section)
    _check_choice(section, "while_paused", WHILE_PAUSED)


def check_run_options(section: Section) -> None:
    """Report what is wrong with the keys of a trigger that say how its runs are run."""
    section.boolean("allow_blocks_to_fail", default=False)
    section.seconds("run_timeout")
    _check_choice(section, "run_timeout_status", TIMEOUT_STATUSES)


def check_throttle(throttle: Section, *, with_key: bool = False) -> None:
    """Report what is wrong with a throttle. Only that of a trigger has a `key`, which speaks of the event."""
    throttle.unknown_keys("throttle", ("limit", "per", "when_full", *(("key",) if with_key else ())))
    if throttle.count("limit", least=1) is None and "limit" not in throttle:
        throttle.error("limit", "it needs `limit`: how many runs may begin in each span of time")
    if "per" not in throttle:
        throttle.error("per", "it needs `per`: the span of time, such as 1m or 1h")
    elif (throttle.seconds("per") or 0) > LONGEST_WINDOW_DAYS * 86400:
        throttle.error("per", f"`per` must be at most {LONGEST_WINDOW_DAYS}d")
    _check_choice(throttle, "when_full", WHEN_OVER)
    if with_key:
        check_template(throttle, "key", TRIGGER_NAMES)


def _check_settle(settle: Section) -> None:
    settle.unknown_keys("settle", ("quiet", "max_wait", "group", "min_count", "max_count"))
    quiet = settle.seconds("quiet")
    if "quiet" not in settle:
        settle.error("quiet", "it needs `quiet`: how long nothing may come before the batch is complete")
    longest = settle.seconds("max_wait")
    if quiet and longest and longest < quiet:
        settle.error("max_wait", "`max_wait` must not be shorter than `quiet`")
    check_template(settle, "group", TRIGGER_NAMES)
    least, most = settle.count("min_count", least=1), settle.count("max_count", least=1)
    if most is not None and most > MOST_IN_BATCH:
        settle.error("max_count", f"`max_count` must be at most {MOST_IN_BATCH:,}")
    elif least is not None and least > (most or USUAL_BATCH):
        settle.error("min_count", "`min_count` must not be more than `max_count`")


def _check_concurrency(concurrency: Section) -> None:
    concurrency.unknown_keys("concurrency", ("limit", "key", "when_full"))
    if concurrency.count("limit", least=1) is None and "limit" not in concurrency:
        concurrency.error("limit", "it needs `limit`: how many runs of this trigger may go on at once")
    _check_choice(concurrency, "when_full", WHEN_FULL)
    check_template(concurrency, "key", TRIGGER_NAMES)


def _check_priority(section: Section) -> None:
    value = section.get("priority", 0)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or abs(value) > LARGEST_PRIORITY:
        section.error(
            "priority",
            f"`priority` must be a whole number from -{LARGEST_PRIORITY} to {LARGEST_PRIORITY}; "
            "higher ones go first",
        )


def _check_choice(section: Section, key: str, choices: Sequence[str]) -> None:
    if section.text(key, choices[0]) not in choices:
        section.error(key, f"`{key}` must be one of {', '.join(choices)}")

"""Reads `triggers.yaml`: our own keys here, Mage's translated into ours beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipelines.model import RUN_EVENTS, Trigger, TriggerType
from pipelines.parse_blocks import Sources
from pipelines.parse_body_schema import read_body_schema
from pipelines.parse_expectations import EXPECTATION_KEYS, check_expectation
from pipelines.parse_fields import Findings, Section, closest, listed, read_document, words
from pipelines.parse_inputs import check_reserved
from pipelines.parse_limits import check_limits, check_run_options
from pipelines.parse_mage_triggers import read_mage_trigger
from pipelines.parse_retention import read_retention
from pipelines.parse_schedule import check_every, check_schedule, check_span, check_time, schedule_times
from pipelines.parse_templates import TRIGGER_NAMES, check_mapping, check_single, check_template
from pipelines.parse_verify import read_verify
from pipelines.templating import is_template
from pipelines.values import plain

_COMMON_KEYS = words(
    """
    name type schedule_type pipeline_uuid description enabled status paused filter variables
    execution_date settle concurrency throttle priority while_paused retention
    allow_blocks_to_fail run_timeout run_timeout_status
    """
)
_KEYS: Mapping[TriggerType, frozenset[str]] = {
    TriggerType.WEBHOOK: words(
        """
    path verify allow required_headers key format schema max_body rate queue_limit body_key subscription
    """
    ),
    TriggerType.SCHEDULE: frozenset(["cron", "every", "timezone", "catch_up", "start", "end"]),
    TriggerType.SENSOR: words(
        """
    sensor options every existing timezone timeout max_events
    """
    ),
    TriggerType.EVENT: frozenset(("event", "source")),
    TriggerType.EXPECTATION: EXPECTATION_KEYS,
}
_NOT_IN_PATHS = ("..", "//", *"?#% \\")  # no request would get there
_SENSORS = words(
    """
    files gcs_object pubsub_message sql http bigquery python
    """
)


@dataclass(frozen=True)
class TriggersRead:
    """The triggers of one pipeline; broken ones by name, so that their last good version can stay."""

    good: tuple[Trigger, ...] = ()
    broken: frozenset[str] = frozenset()
    is_readable: bool = True  # False when nothing can be said of any trigger in the file


def read_triggers(
    pipeline: str, text: str | None, findings: Findings, sources: Sources | None = None
) -> TriggersRead:
    """Read the triggers of `pipeline`. One that is wrong stops no other. No text is no triggers.

    `sources` has the files that triggers name.
    """
    if text is None:
        return TriggersRead(is_readable=not findings.error_count)
    document = read_document(text, findings)
    if document is None:
        return TriggersRead(is_readable=False)
    root = Section(document, (), findings, "the file")
    root.unknown_keys("triggers file", ("triggers",))
    if not isinstance(root.get("triggers", []), list):
        root.error("triggers", "`triggers` must be a list")
    if findings.error_count:
        return TriggersRead(is_readable=False)
    good: list[Trigger] = []
    broken: set[str] = set()
    lines: dict[str, int] = {}
    for section in root.sections("triggers", "a trigger"):
        before = findings.error_count
        name = _name(section)
        if name in lines:
            section.error(
                "name", f"the name is taken by the trigger in line {lines[name]}; rename one of them"
            )
        elif name:
            lines[name] = section.line()
            read = read_mage_trigger if "schedule_type" in section else _read_ours
            trigger = _with_schema(read(pipeline, name, section), section, sources)
            if findings.error_count > before:
                broken.add(name)
            elif trigger is not None:
                good.append(trigger)
    return TriggersRead(tuple(good), frozenset(broken))


def _name(section: Section) -> str:
    name = section.text("name").strip()
    if not name:
        section.error("name", "it has no `name`; give it one")
        return ""
    section.what = f"trigger '{name}'"
    if len(name) > 200 or not name.isprintable():
        section.error("name", "the name must be printable text of at most 200 characters")
    return name


def _read_ours(pipeline: str, name: str, section: Section) -> Trigger | None:
    kind = section.text("type")
    known = [item.value for item in TriggerType]
    if kind not in known:
        problem = f"the type '{kind}' is unknown" if kind else "it has no `type`"
        section.error("type", f"{problem} (known: {listed(known)}){closest(kind, known)}")
        return None
    trigger_type = TriggerType(kind)
    section.unknown_keys(f"{kind} trigger", _COMMON_KEYS | _KEYS[trigger_type])
    _check_common(section)
    spec = {key: plain(value) for key, value in section.values.items() if value is not None}
    spec |= {"retention": read_retention(section), **_CHECKS[trigger_type](section, name)}
    return Trigger(
        pipeline=pipeline,
        name=name,
        type=trigger_type,
        spec={key: value for key, value in spec.items() if value is not None},
        enabled=section.boolean("enabled", default=True) and section.text("status", "active") == "active",
        file=section.findings.file,
        line=section.line(),
    )


def _with_schema(trigger: Trigger | None, section: Section, sources: Sources | None) -> Trigger | None:
    if trigger is None or trigger.type is not TriggerType.WEBHOOK or "schema" not in section:
        return trigger
    return replace(trigger, spec={**trigger.spec, "schema": read_body_schema(section, sources)})


def _check_common(section: Section) -> None:
    check_single(section, "filter", TRIGGER_NAMES)
    check_mapping(section, "variables", TRIGGER_NAMES)
    check_reserved(section, "variables")
    if check_template(section, "execution_date", TRIGGER_NAMES) is None:
        _check_fixed_date(section)
    section.boolean("paused", default=False)
    if section.text("status", "active") not in ("active", "inactive"):
        section.error("status", "`status` must be active or inactive")
    check_limits(section)
    check_run_options(section)


def _check_fixed_date(section: Section) -> None:
    value = section.get("execution_date")
    if not is_template(value) and not isinstance(value, (int, float)):  # a number is unix seconds
        check_time(section, "execution_date")


# Each returns the keys whose normal form differs from what is written; None takes a key away.


def _check_webhook(section: Section, name: str) -> dict[str, Any]:
    path = section.text("path")
    if path and (not path.startswith("/webhooks/") or any(part in path for part in _NOT_IN_PATHS)):
        section.error("path", f"`path` must be plain and begin with /webhooks/, not {path!r}")
    if not path and "/" in name:
        section.error(
            "name", "a webhook's name is part of its address; take the '/' out, or give it a `path`"
        )
    check_template(section, "key", TRIGGER_NAMES)
    section.boolean("body_key", default=False)
    for key in ("max_body", "queue_limit"):
        section.count(key, least=1)
    for key in ("allow", "required_headers"):
        section.texts(key)
    return {"verify": read_verify(section)}


def _check_schedule_keys(section: Section, name: str) -> dict[str, Any]:
    check_schedule(section)
    return schedule_times(section)


def _check_sensor(section: Section, name: str) -> dict[str, Any]:
    sensor = section.text("sensor")
    if not sensor:
        section.error("sensor", f"it has no `sensor`; give it one of {listed(_SENSORS)}")
    elif sensor not in _SENSORS:
        section.error(
            "sensor",
            f"the sensor '{sensor}' is unknown (known: {listed(_SENSORS)}){closest(sensor, _SENSORS)}",
        )
    section.mapping("options")
    check_every(section)
    check_span(section, "timeout")
    section.count("max_events", least=1)
    return {"existing": _existing(section)}


def _existing(section: Section) -> Any:
    """Return `ignore`, `trigger`, or {"since": <ISO time>}."""
    value = section.get("existing")
    if isinstance(value, Mapping) and set(value) == {"since"}:
        return {"since": check_time(section.section("existing", section.what), "since")}
    if value not in (None, "ignore", "trigger"):
        section.error("existing", "`existing` must be ignore, trigger, or `since: <time>`")
    return value


def _check_event(section: Section, name: str) -> dict[str, Any]:
    event, source = section.text("event"), section.text("source")
    if not event:
        section.error("event", "it has no `event`; name the type of event that starts the pipeline")
    elif event.startswith("run.") and event not in RUN_EVENTS:
        section.warning(
            "event", f"runs make no '{event}' (but {', '.join(RUN_EVENTS)}){closest(event, RUN_EVENTS)}"
        )
    elif event in RUN_EVENTS and not source and "filter" not in section:
        section.warning(
            "event",
            "it is started by the end of its own pipeline's runs as well; name a `source`, "
            "such as run:taxi, or write a `filter`",
        )
    return {"event": event or None, "source": source or None}


_CHECKS: Mapping[TriggerType, Callable[[Section, str], dict[str, Any]]] = {
    TriggerType.WEBHOOK: _check_webhook,
    TriggerType.SCHEDULE: _check_schedule_keys,
    TriggerType.SENSOR: _check_sensor,
    TriggerType.EVENT: _check_event,
    TriggerType.EXPECTATION: check_expectation,
}

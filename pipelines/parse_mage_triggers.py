"""Translates Mage's triggers into ours, so that no other code has to know Mage's names."""

from __future__ import annotations

from typing import Any

from pipelines.cron_names import mage_cron_text
from pipelines.mage.keys import WITHOUT_EFFECT, is_missed
from pipelines.model import Trigger, TriggerType
from pipelines.parse_fields import Section, closest, listed, words
from pipelines.parse_limits import TIMEOUT_STATUSES
from pipelines.parse_schedule import check_cron, check_time
from pipelines.values import plain

TRIGGER_KEYS = words(
    """
    name schedule_type schedule_interval start_time status variables settings envs description token
    """
)
SETTINGS_KEYS = words(
    "skip_if_previous_running pipeline_run_limit allow_blocks_to_fail timeout timeout_status"
)
SCHEDULE_TYPES = ("api", "event", "time")
# Runs happen in Mage's production environment; triggers for others stay asleep.
_ENVIRONMENT = "prod"


def read_mage_trigger(pipeline: str, name: str, section: Section) -> Trigger | None:
    """Return the trigger in our keys; None when it is wrong, or of a kind that is not run."""
    section.unknown_keys("Mage trigger", TRIGGER_KEYS | WITHOUT_EFFECT["trigger"].keys())
    kind = section.text("schedule_type")
    enabled = section.text("status", "inactive") == "active" and _is_for_us(section)
    if kind == "api":
        return _build(
            pipeline, name, section, TriggerType.WEBHOOK, {"verify": _verify(section)}, enabled=enabled
        )
    if kind == "time":
        return _schedule(pipeline, name, section, enabled=enabled)
    if kind == "event":
        section.warning(
            "schedule_type", "Mage keeps what it matches in its database; write it as `type: webhook`"
        )
        return None
    section.error(
        "schedule_type",
        f"`schedule_type` '{kind}' is unknown (known: {listed(SCHEDULE_TYPES)})"
        f"{closest(kind, SCHEDULE_TYPES)}",
    )
    return None


def _schedule(pipeline: str, name: str, section: Section, *, enabled: bool) -> Trigger | None:
    interval = section.text("schedule_interval")
    if not interval:
        section.error(
            "schedule_interval", "a time trigger needs a `schedule_interval`, such as '0 5 * * *' or @daily"
        )
        return None
    cron = mage_cron_text(interval)
    check_cron(section, "schedule_interval", cron)
    spec = {
        "cron": cron,
        "timezone": "UTC",
        "catch_up": "latest",
        "start": check_time(section, "start_time"),
    }
    return _build(pipeline, name, section, TriggerType.SCHEDULE, spec, enabled=enabled)


def _build(
    pipeline: str, name: str, section: Section, kind: TriggerType, spec: dict[str, Any], *, enabled: bool
) -> Trigger:
    settings = section.section("settings", f"{section.what}, settings")
    unused = WITHOUT_EFFECT["settings"]
    settings.unknown_keys("Mage trigger's settings", SETTINGS_KEYS | unused.keys())
    for key, value in settings.values.items():
        if is_missed("settings", key, value):
            settings.warning(key, f"`{key}` is not applied yet; {unused[key]}")
    if "sla" in section:
        section.warning("sla", "`sla` is not applied yet; nobody is told of a run that takes longer")
    if settings.get("skip_if_previous_running"):
        spec["concurrency"] = {"limit": 1, "when_full": "skip"}
    elif (limit := settings.count("pipeline_run_limit", least=1)) is not None:
        spec["concurrency"] = {"limit": limit, "when_full": "queue"}
    spec |= {
        "allow_blocks_to_fail": settings.boolean("allow_blocks_to_fail", default=False) or None,
        "run_timeout": settings.seconds("timeout"),
        "run_timeout_status": _timeout_status(settings),
        "variables": plain(section.mapping("variables")) or None,
        "description": section.text("description") or None,
        "settings": plain(dict(settings.values)) or None,
        "sla": section.count("sla"),
    }
    return Trigger(
        pipeline=pipeline,
        name=name,
        type=kind,
        spec={key: value for key, value in spec.items() if value is not None},
        enabled=enabled,
        mage=True,
        file=section.findings.file,
        line=section.line(),
    )


def _timeout_status(settings: Section) -> str | None:
    status = settings.text("timeout_status") or None
    if status not in (None, *TIMEOUT_STATUSES):
        settings.error("timeout_status", f"`timeout_status` must be one of {listed(TIMEOUT_STATUSES)}")
    return status


def _verify(section: Section) -> dict[str, Any]:
    token = section.text("token")
    return {"scheme": "token", "secret": token} if token else {"scheme": "token"}


def _is_for_us(section: Section) -> bool:
    environments = section.texts("envs")
    return not environments or _ENVIRONMENT in environments

"""What can only be seen across the pipelines of a project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipelines.model import Pipeline, Problem, Severity, Trigger, TriggerType
from pipelines.parse_fields import closest, listed
from pipelines.templating import holds_template
from pipelines.variables import InputError, check_inputs

_UNKNOWN_KEY = "unknown key "


def once_per_key(problems: Iterable[Problem]) -> list[Problem]:
    """Sort the problems, and leave of each sentence about an unknown key only the first."""
    told: set[str] = set()
    kept = []
    for problem in sorted(set(problems), key=lambda item: (item.file, item.line, item.message)):
        if problem.message.startswith(_UNKNOWN_KEY):
            if problem.message in told:
                continue
            told.add(problem.message)
        kept.append(problem)
    return kept


def webhook_path(trigger: Trigger) -> str:
    """Return the path at which a webhook trigger listens, within its project."""
    return str(trigger.spec.get("path") or f"/webhooks/{trigger.pipeline}/{trigger.name}")


def without_shared_paths(pipelines: Mapping[str, Pipeline]) -> tuple[dict[str, Pipeline], list[Problem]]:
    """Take every webhook away whose path another one has already, and say so."""
    owners: dict[str, Trigger] = {}
    problems = []
    kept = {}
    for name, pipeline in sorted(pipelines.items()):
        good = []
        for trigger in pipeline.triggers:
            owner = owners.setdefault(webhook_path(trigger), trigger) if _is_webhook(trigger) else trigger
            if owner is trigger:
                good.append(trigger)
            else:
                problems.append(_shared_path(trigger, owner))
        kept[name] = (
            pipeline if len(good) == len(pipeline.triggers) else replace(pipeline, triggers=tuple(good))
        )
    return kept, problems


def unknown_profiles(pipelines: Iterable[Pipeline], profiles: Iterable[str]) -> list[Problem]:
    """Warn of SQL blocks and sensors whose profile is not in `io_config.yaml`."""
    known = set(profiles)
    there = f"it has: {listed(known)}" if known else "it has none"
    return [
        Problem(
            file,
            line,
            Severity.WARNING,
            f"{who}: the profile '{profile}' is not in io_config.yaml ({there}){closest(profile, known)}",
            pipeline.name,
        )
        for pipeline in pipelines
        for who, profile, file, line in (*_profiles_of_blocks(pipeline), *_profiles_of_sensors(pipeline))
        if isinstance(profile, str) and "{{" not in profile and profile not in known
    ]


def _profiles_of_blocks(pipeline: Pipeline) -> Iterator[tuple[str, Any, str, int]]:
    for block in pipeline.blocks:
        if block.language == "sql":
            profile = block.configuration.get("data_provider_profile")
            yield f"block '{block.name}'", profile, pipeline.file, block.line


def _profiles_of_sensors(pipeline: Pipeline) -> Iterator[tuple[str, Any, str, int]]:
    for trigger in pipeline.triggers:
        options = trigger.spec.get("options")
        if trigger.type is TriggerType.SENSOR and trigger.spec.get("sensor") != "python" and options:
            yield f"trigger '{trigger.name}'", options.get("profile"), trigger.file, trigger.line


def unknown_triggers(pipelines: Collection[Pipeline]) -> list[Problem]:
    """Warn of expectations of events that a trigger takes which is not there, and so never takes any."""
    known = {f"{trigger.pipeline}/{trigger.name}" for one in pipelines for trigger in one.triggers}
    problems = []
    for pipeline in pipelines:
        for trigger in pipeline.triggers:
            named = (trigger.spec.get("expect") or {}).get("trigger")
            path = named if not named or "/" in named else f"{pipeline.name}/{named}"
            if trigger.type is TriggerType.EXPECTATION and path and path not in known:
                message = f"trigger '{trigger.name}': there is no trigger '{path}'{closest(path, known)}"
                problems.append(Problem(trigger.file, trigger.line, Severity.WARNING, message, pipeline.name))
    return problems


def wrong_inputs(pipelines: Iterable[Pipeline]) -> list[Problem]:
    """Report triggers whose variables the pipeline's inputs would refuse at every event."""
    return [
        Problem(
            trigger.file, trigger.line, Severity.ERROR, f"trigger '{trigger.name}': {sentence}", pipeline.name
        )
        for pipeline in pipelines
        for trigger in pipeline.triggers
        if trigger.enabled and not _is_fed_by_events(trigger)
        for sentence in _refusals(pipeline, trigger.spec.get("variables") or {})
    ]


def _is_fed_by_events(trigger: Trigger) -> bool:
    """Tell whether the variables come from the body of each event."""
    return _is_webhook(trigger) and (trigger.mage or trigger.spec.get("variables") is None)


def _refusals(pipeline: Pipeline, variables: Mapping[str, Any]) -> tuple[str, ...]:
    # What templates come to is known only when an event is there.
    known = {name: value for name, value in variables.items() if not holds_template(value)}
    judged = [
        declared for declared in pipeline.inputs if declared.name in known or declared.name not in variables
    ]
    try:
        check_inputs(replace(pipeline, inputs=tuple(judged)), known)
    except InputError as error:
        return error.problems
    return ()


def _is_webhook(trigger: Trigger) -> bool:
    return trigger.type is TriggerType.WEBHOOK


def _shared_path(trigger: Trigger, owner: Trigger) -> Problem:
    message = (
        f"trigger '{trigger.name}': its path {webhook_path(trigger)} belongs to trigger '{owner.name}' of "
        f"pipeline '{owner.pipeline}' ({owner.file}:{owner.line}); give it another `path`"
    )
    return Problem(trigger.file, trigger.line, Severity.ERROR, message, trigger.pipeline)

"""What is wrong with the sensors that a project's triggers name, without ticking any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.model import Problem, Severity, Trigger, TriggerType
from pipelines.project import Project
from pipelines.templating import is_template
from sensors.base import Existing, OptionsError
from sensors.registry import UnknownSensorError, configure


def sensor_problems(project: Project) -> tuple[Problem, ...]:
    """Return an error for every option that its sensor does not take, or that names a file that is not there.

    Options that hold a template are not judged: what they come to is known only where the service runs.
    """
    return tuple(
        Problem(
            trigger.file, trigger.line, Severity.ERROR, f"trigger '{trigger.name}': {sentence}", pipeline.name
        )
        for pipeline in project.pipelines.values()
        for trigger in pipeline.triggers
        if trigger.type is TriggerType.SENSOR
        for sentence in _faults(trigger, project.root)
    )


def _faults(trigger: Trigger, root: Path) -> Iterator[str]:
    try:
        Existing.parse(trigger.spec.get("existing"))
    except ValueError as error:
        yield str(error)
    options: Mapping[str, object] = trigger.spec.get("options") or {}
    if any(is_template(value) for value in options.values()):
        return
    try:
        sensor = configure(str(trigger.spec.get("sensor")), options)
        yield from (f"sensor '{sensor.name}': {sentence}" for sentence in sensor.faults(root))
    except OptionsError as error:
        yield from (f"sensor '{error.sensor}': {sentence}" for sentence in error.sentences)
    except UnknownSensorError as error:
        yield str(error)

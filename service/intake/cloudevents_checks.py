"""What is wrong with a project's `cloudevents` and its event triggers, without knowing a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.model import Problem, Severity, Trigger, TriggerType
from pipelines.parse import PROJECT_FILE
from pipelines.parse_fields import closest
from pipelines.project import Project
from pipelines.templating import holds_template
from sensors.gcs_news import CLOUDEVENTS, MESSAGE_PUBLISHED, TYPES
from sensors.pubsub_messages import MESSAGE_TYPE
from service.intake.admission import RateError, read_rate
from service.intake.verify.base import SchemeError
from service.intake.verify.registry import build_scheme
from service.intake.webhook_checks import with_some_secrets

# Under what types the ledger has the events that Eventarc brings.
_OUR_TYPES = {name: TYPES[kind] for name, kind in CLOUDEVENTS.items()} | {MESSAGE_PUBLISHED: MESSAGE_TYPE}


def cloudevents_problems(project: Project) -> tuple[Problem, ...]:
    """Return an error for what keeps the door shut, and a warning for triggers that wait in vain."""
    return (*_door_problems(project), *_trigger_problems(project), *_address_problems(project))


def _door_problems(project: Project) -> Iterator[Problem]:
    settings = project.cloudevents
    verify = with_some_secrets(settings.verify)
    try:
        if settings.rate is not None:
            read_rate(settings.rate)
        if isinstance(verify, Mapping) and not holds_template(verify):
            build_scheme(verify)
    except (SchemeError, RateError) as error:
        yield Problem(PROJECT_FILE, settings.line, Severity.ERROR, f"cloudevents: {error}")


def _trigger_problems(project: Project) -> Iterator[Problem]:
    for pipeline in project.pipelines.values():
        for trigger in pipeline.triggers:
            if trigger.type is TriggerType.EVENT:
                for sentence in _in_vain(trigger, project):
                    message = f"trigger '{trigger.name}': {sentence}"
                    yield Problem(trigger.file, trigger.line, Severity.WARNING, message, pipeline.name)


def _in_vain(trigger: Trigger, project: Project) -> Iterator[str]:
    ours = _OUR_TYPES.get(str(trigger.spec.get("event")))
    if ours is not None:
        yield f"such an event has the type '{ours}' here; write that"
    road, _, name = str(trigger.spec.get("source") or "").partition(":")
    if road == "run" and name not in project.pipelines:
        yield f"`source`: there is no pipeline '{name}'{closest(name, project.pipelines)}"


def _address_problems(project: Project) -> Iterator[Problem]:
    for address in project.cloudevents.send:
        for name in address.pipelines:
            if name not in project.pipelines:
                sentence = f"the address '{address.name}' of `send`: there is no pipeline '{name}'"
                yield Problem(PROJECT_FILE, address.line, Severity.WARNING, sentence)

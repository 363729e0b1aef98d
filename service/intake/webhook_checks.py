"""What is wrong with the keys of a project's webhook triggers, without opening a door or knowing a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.model import Problem, Severity, Trigger, TriggerType
from pipelines.project import Project
from pipelines.templating import holds_template, is_template
from service.intake.admission import RateError, read_rate
from service.intake.body_schemas import BodySchema, BodySchemaError
from service.intake.doors import DoorError, check_path, read_format
from service.intake.verify.base import SchemeError
from service.intake.verify.guarded import guarded
from service.intake.verify.registry import build_scheme
from service.intake.verify.unsigned import Unsigned

# Stands for a secret that is known only where the service runs. It is good in every encoding of secrets.
_SOME_SECRET = "0" * 32


def webhook_problems(project: Project) -> tuple[Problem, ...]:
    """Return an error for every key of a webhook that would keep its door shut."""
    return tuple(
        Problem(
            trigger.file, trigger.line, Severity.ERROR, f"trigger '{trigger.name}': {sentence}", pipeline.name
        )
        for pipeline in project.pipelines.values()
        for trigger in pipeline.triggers
        if trigger.type is TriggerType.WEBHOOK
        for sentence in _faults(trigger)
    )


def _faults(trigger: Trigger) -> Iterator[str]:
    rate, verify = trigger.spec.get("rate"), with_some_secrets(trigger.spec.get("verify"))
    if rate is not None:
        yield from _fault(lambda: read_rate(str(rate)))
    yield from _fault(lambda: read_format(trigger.spec.get("format")))
    yield from _fault(lambda: check_path(trigger.spec))
    yield from _fault(lambda: guarded(Unsigned(), trigger.spec))
    schema = trigger.spec.get("schema")
    if schema is not None:
        yield from _fault(lambda: BodySchema.compile(schema))
    if isinstance(verify, Mapping) and not trigger.mage and not holds_template(verify):
        yield from (f"`verify`: {sentence}" for sentence in _fault(lambda: build_scheme(verify)))


def _fault(read: Callable[[], object]) -> Iterator[str]:
    try:
        read()
    except (SchemeError, RateError, DoorError, BodySchemaError) as error:
        yield str(error)


def with_some_secrets(verify: Any) -> Any:
    """Return the options with something in the place of each secret that is a template."""
    if not isinstance(verify, Mapping):
        return verify
    several = verify.get("secrets")
    return {
        **verify,
        "secret": _some_secret(verify.get("secret")),
        "secrets": [_some_secret(item) for item in several] if isinstance(several, list) else several,
    }


def _some_secret(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {**item, "secret": _some_secret(item.get("secret"))}
    return _SOME_SECRET if is_template(item) else item

"""Runs the checks. Those of a cloud are loaded only where a trigger uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from pipelines.errors import MillraceError
from pipelines.model import TriggerType
from sensors.base import SensorError
from service.doctor.findings import Check, Finding, Patient, problem
from service.matching.triggers import CompiledTrigger, compile_triggers
from service.runtime import Runtime

LOCAL = (
    "service.doctor.service_parts:store",
    "service.doctor.service_parts:engines",
    "service.doctor.service_parts:clock",
    "service.doctor.service_parts:disk",
    "service.doctor.projects:projects",
    "service.doctor.projects:triggers",
    "service.doctor.projects:cloudevents",
    "service.doctor.projects:held",
    "service.doctor.profiles:profiles",
)

Concerns = Callable[[CompiledTrigger], bool]


def _has_sensor(name: str) -> Concerns:
    return lambda compiled: (
        compiled.trigger.type is TriggerType.SENSOR and compiled.trigger.spec.get("sensor") == name
    )


def _is_push(compiled: CompiledTrigger) -> bool:
    return compiled.trigger.type is TriggerType.WEBHOOK and compiled.trigger.spec.get("format") == "pubsub"


# Check -> which triggers make it worth loading a cloud's library.
CLOUD: Mapping[str, Concerns] = {
    "service.doctor.subscriptions:pulled": _has_sensor("pubsub_message"),
    "service.doctor.subscriptions:pushed": _is_push,
    "service.doctor.buckets:notifications": _has_sensor("gcs_object"),
}


def examine(runtime: Runtime) -> Iterator[Finding]:
    """Yield what every check finds, as it is found. A check that fails is a finding itself."""
    patient = Patient(runtime, tuple(_triggers(runtime)))
    for name in LOCAL:
        yield from _checked(name, patient)
    for name, concerns in CLOUD.items():
        concerned = tuple(compiled for compiled in patient.triggers if concerns(compiled))
        if concerned:
            yield from _checked(name, Patient(runtime, concerned))


def _triggers(runtime: Runtime) -> Iterator[CompiledTrigger]:
    for project in runtime.projects.all():
        yield from compile_triggers(project, environ=runtime.environ, secrets=runtime.secrets).values()


def _checked(name: str, patient: Patient) -> Iterator[Finding]:
    module, _, function = name.partition(":")
    check: Check = getattr(import_module(module), function)
    try:
        yield from check(patient)
    except (MillraceError, SensorError) as error:
        yield problem("check", function, str(error), "mend that first, then ask again")
    except Exception as error:
        yield problem(
            "check",
            function,
            f"the check itself failed: {type(error).__name__}: {error}",
            "this is a fault of Millrace; tell its makers",
        )

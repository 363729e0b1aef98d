"""Triggers, compiled once per version of their pipeline, so that an event costs no parsing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import MillraceError
from pipelines.model import Pipeline, Trigger
from pipelines.parse_fields import duration_seconds
from pipelines.project import Project
from pipelines.secrets import Secrets
from pipelines.templating import CompiledTree, Expression, TemplateError, expression
from sensors.event import Event
from service.intake.body_schemas import BodySchema
from service.matching.limiting import (
    Concurrency,
    Rate,
    limits_for_events,
    read_concurrency,
    read_rate,
    throttles_for_events,
)
from service.matching.rendering import Rendering
from service.matching.retention import Lifetime, lifetime_of
from service.matching.settling import Settle, read_settle
from service.store.values import Limit, Throttle

TriggerKey = tuple[str, str]  # (pipeline, trigger)
StateKey = tuple[str, str, str]  # (project, pipeline, trigger)


@dataclass(frozen=True, slots=True)
class CompiledTrigger:
    """A trigger with its templates compiled and its options rendered.

    With a `fault` it cannot decide anything: the sentence says why, and events that concern it end in
    `mapping_failed`.
    """

    project: str
    pipeline: Pipeline
    trigger: Trigger
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets
    verify: str | Mapping[str, Any] | None = field(default=None, repr=False)
    key: Expression | None = None
    schema: BodySchema | None = None
    filter: Expression | None = None
    variables: CompiledTree | None = None
    execution_date: Expression | None = None
    limits: tuple[Limit, ...] = ()  # of the pipeline, as an event meets them
    throttles: tuple[Throttle, ...] = ()
    concurrency: Concurrency | None = None  # the trigger's own
    rate: Rate | None = None
    settle: Settle | None = None
    lifetime: Lifetime = field(default_factory=Lifetime)
    fault: str | None = None

    @property
    def name(self) -> str:
        return self.trigger.name

    @property
    def state_key(self) -> StateKey:
        """What the store knows the trigger by."""
        return self.project, self.pipeline.name, self.trigger.name

    @property
    def is_paused_by_file(self) -> bool:
        return self.trigger.spec.get("paused") is True

    @property
    def drops_while_paused(self) -> bool:
        return self.trigger.spec.get("while_paused") == "drop"

    @property
    def priority(self) -> int:
        return int(self.trigger.spec.get("priority") or 0)

    @property
    def timezone(self) -> str:
        return str(self.trigger.spec.get("timezone") or "UTC")

    @property
    def run_options(self) -> Mapping[str, Any]:
        """What its runs may do, as fields of `pipelines.runspec.RunOptions`."""
        spec = self.trigger.spec
        given = {
            "allow_blocks_to_fail": spec.get("allow_blocks_to_fail") or None,
            "timeout_seconds": duration_seconds(spec["run_timeout"]) if spec.get("run_timeout") else None,
            "timeout_status": spec.get("run_timeout_status"),
        }
        return {name: value for name, value in given.items() if value is not None}

    def matches(self, event: Event, event_id: str = "") -> bool:
        """Say whether the filter lets the event through. Raises TemplateError."""
        if self.filter is None:
            return True
        return bool(self.filter.evaluate(event=event.as_template_value(event_id)))

    def limits_of(self, event: Mapping[str, Any]) -> tuple[Limit, ...]:
        """Return the limits of a run for this event, as templates see it. Raises TemplateError."""
        return self.limits if self.concurrency is None else (*self.limits, self.concurrency.of(event))

    def throttles_of(self, event: Mapping[str, Any]) -> tuple[Throttle, ...]:
        """Return the throttles of a run for this event, as templates see it. Raises TemplateError."""
        return self.throttles if self.rate is None else (*self.throttles, self.rate.of(event))


def compile_triggers(
    project: Project, *, environ: Mapping[str, str], secrets: Secrets
) -> Mapping[TriggerKey, CompiledTrigger]:
    """Compile every enabled trigger of the project's good pipelines. One that cannot work gets a `fault`."""
    rendering = Rendering(environ, secrets)
    return {
        (pipeline.name, trigger.name): compile_trigger(project.name, pipeline, trigger, rendering)
        for pipeline in project.pipelines.values()
        for trigger in pipeline.triggers
        if trigger.enabled
    }


def compile_trigger(
    project: str, pipeline: Pipeline, trigger: Trigger, rendering: Rendering
) -> CompiledTrigger:
    try:
        return _compiled(project, pipeline, trigger, rendering)
    except MillraceError as error:
        fault = f"trigger {trigger.name!r} of {pipeline.name!r} cannot work: {error}"
        return CompiledTrigger(project, pipeline, trigger, fault=fault)


def _compiled(project: str, pipeline: Pipeline, trigger: Trigger, rendering: Rendering) -> CompiledTrigger:
    spec = trigger.spec
    where = f"{trigger.file}:{trigger.line}"
    own = f"trigger:{project}/{pipeline.name}/{trigger.name}"
    return CompiledTrigger(
        project=project,
        pipeline=pipeline,
        trigger=trigger,
        options=rendering.tree(spec.get("options") or {}, where=where),
        verify=rendering.tree(spec.get("verify"), where=where),
        key=_expression(spec.get("key")),
        schema=BodySchema.compile(spec["schema"]) if spec.get("schema") is not None else None,
        filter=_filter(spec.get("filter")),
        variables=_variables(trigger),
        execution_date=_expression(spec.get("execution_date")),
        limits=limits_for_events(project, pipeline),
        throttles=throttles_for_events(project, pipeline),
        concurrency=read_concurrency(own, spec.get("concurrency")),
        rate=read_rate(own, spec.get("throttle")),
        settle=read_settle(spec.get("settle")),
        lifetime=lifetime_of(spec),
    )


def _variables(trigger: Trigger) -> CompiledTree | None:
    # Mage takes a trigger's variables as they are; braces in them are not templates.
    given = trigger.spec.get("variables")
    return CompiledTree(given) if given is not None and not trigger.mage else None


def _filter(value: Any) -> Expression | None:
    if value is None or value is True:
        return None
    compiled = expression("{{ false }}" if value is False else str(value))
    if not compiled.is_single:
        # A text is true, whatever it says: such a filter would let everything through.
        raise TemplateError("`filter` must be one {{ expression }}")
    return compiled


def _expression(value: Any) -> Expression | None:
    return None if value is None else expression(value if isinstance(value, str) else str(value))

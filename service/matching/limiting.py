"""What holds the runs of a trigger back: how many at once, how many in a span of time, each by a key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipelines.model import Pipeline
from pipelines.parse_fields import duration_seconds
from pipelines.templating import Expression, TemplateError, expression
from service.store.values import Limit, Throttle, WhenFull

MAX_KEY_CHARACTERS = 200  # of what a template of ours may name a limit or a group by


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A trigger's own limit: so many runs at once, for each value of `key`."""

    name: str
    maximum: int
    key: Expression | None = None
    when_full: WhenFull = WhenFull.QUEUE

    def of(self, event: Mapping[str, Any]) -> Limit:
        return Limit(_named(self.name, self.key, event), self.maximum, self.when_full)


@dataclass(frozen=True, slots=True)
class Rate:
    """A trigger's own throttle: so many runs begin in each window, for each value of `key`."""

    name: str
    maximum: int
    seconds: float
    key: Expression | None = None
    when_full: WhenFull = WhenFull.QUEUE

    def of(self, event: Mapping[str, Any]) -> Throttle:
        return Throttle(_named(self.name, self.key, event), self.maximum, self.seconds, self.when_full)


def run_limits(project: str, pipeline: Pipeline, when_full: WhenFull = WhenFull.QUEUE) -> tuple[Limit, ...]:
    """Return the limits that every run of the pipeline counts against, by whatever way it was asked for.

    What a person asks for waits its turn; `when_full` is for what an event asks for.
    """
    if pipeline.run_limit is None:
        return ()
    return (Limit(_of_pipeline(project, pipeline), pipeline.run_limit, when_full),)


def run_throttles(project: str, pipeline: Pipeline) -> tuple[Throttle, ...]:
    """Return the throttles that every run of the pipeline counts against; what a person asks for waits."""
    return tuple(
        Throttle(throttle.key, throttle.maximum, throttle.seconds)
        for throttle in throttles_for_events(project, pipeline)
    )


def limits_for_events(project: str, pipeline: Pipeline) -> tuple[Limit, ...]:
    return run_limits(project, pipeline, WhenFull(pipeline.when_full))


def throttles_for_events(project: str, pipeline: Pipeline) -> tuple[Throttle, ...]:
    rate = read_rate(_of_pipeline(project, pipeline), pipeline.throttle)
    return () if rate is None else (rate.of({}),)


def read_concurrency(name: str, spec: Mapping[str, Any] | None) -> Concurrency | None:
    """Return the limit as a trigger's `concurrency` has it. Raises TemplateError."""
    if not spec or spec.get("limit") is None:
        return None
    return Concurrency(name, int(spec["limit"]), compiled(spec.get("key")), _when_full(spec))


def read_rate(name: str, spec: Mapping[str, Any] | None) -> Rate | None:
    """Return the throttle as a trigger's or a pipeline's `throttle` has it. Raises TemplateError."""
    if not spec:
        return None
    seconds = duration_seconds(spec["per"])
    return Rate(name, int(spec["limit"]), seconds, compiled(spec.get("key")), _when_full(spec))


def compiled(template: Any) -> Expression | None:
    """Compile the template of a key. A text without a template is one key for all."""
    return None if template is None else expression(str(template))


def key_text(template: Expression, event: Mapping[str, Any]) -> str:
    """Return what the template makes of the event, short enough to be a key. Raises TemplateError."""
    value = template.evaluate(event=event)
    if isinstance(value, date):  # or a datetime
        value = value.isoformat()
    if not isinstance(value, str | int | float) or value == "":
        shown = repr(value)[:60]
        raise TemplateError(
            f"the template '{template.text[:80]}' gave {shown}; it must give a text or a number"
        )
    text = str(value)
    if len(text) <= MAX_KEY_CHARACTERS and text.isprintable():
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _named(name: str, key: Expression | None, event: Mapping[str, Any]) -> str:
    return name if key is None else f"{name}:{key_text(key, event)}"


def _of_pipeline(project: str, pipeline: Pipeline) -> str:
    return f"pipeline:{project}/{pipeline.name}"


def _when_full(spec: Mapping[str, Any]) -> WhenFull:
    return WhenFull(spec.get("when_full") or WhenFull.QUEUE)

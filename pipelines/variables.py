"""What a run is given: inputs checked at the door, variables merged, and the keywords of each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.errors import MillraceError
from pipelines.model import Block, Input, Pipeline
from pipelines.values import ValueProblem, coerce, plain


class InputError(MillraceError):
    """Variables that the pipeline's inputs refuse. `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run is, apart from its variables. Times are aware UTC."""

    run_id: str
    project: str
    pipeline: str
    trigger: str | None
    execution_date: datetime
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    timezone: str = "UTC"  # the trigger's, for the local twins
    attempt: int = 1
    event: Mapping[str, Any] | None = None
    env: str = "prod"


def check_inputs(pipeline: Pipeline, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return `variables` as JSON can hold them, the declared inputs in their normal form.

    Raises InputError with a sentence for every input that is missing or wrong. Names that are no inputs pass
    as they are: Mage's variables are not declared.
    """
    problems: list[str] = []
    checked = {name: plain(value) for name, value in variables.items()}
    for declared in pipeline.inputs:
        value = variables.get(declared.name)
        if value is None:
            if _is_missing(declared, pipeline):
                problems.append(_missing_sentence(declared))
            continue
        try:
            checked[declared.name] = plain(_checked(declared, value))
        except ValueProblem as problem:
            problems.append(f"input '{declared.name}' must be {problem}")
    if problems:
        raise InputError(problems)
    return checked


def merged_variables(pipeline: Pipeline, run_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the blocks of a run see: defaults of the inputs < the pipeline's < the run's.

    Typed inputs come as Python values: a date is a `datetime.date`. Raises InputError.
    """
    defaults = {
        declared.name: declared.default for declared in pipeline.inputs if declared.default is not None
    }
    given = {
        name: value for name, value in run_variables.items() if value is not None or name not in defaults
    }
    merged = {**defaults, **pipeline.variables, **given}
    problems = []
    for declared in pipeline.inputs:
        value = merged.setdefault(declared.name, None)
        if value is None:
            continue
        try:
            merged[declared.name] = _checked(declared, value)
        except ValueProblem as problem:
            problems.append(f"input '{declared.name}' must be {problem}")
    if problems:
        raise InputError(problems)
    return merged


def block_keywords(facts: RunFacts, block: Block, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a block receives by keyword, except `logger`. The run's own names win."""
    date = facts.execution_date
    local = date.astimezone(ZoneInfo(facts.timezone))
    return {
        **variables,
        "execution_date": date,
        "ds": date.strftime("%Y-%m-%d"),
        "hr": date.strftime("%H"),
        "execution_date_local": local,
        "ds_local": local.strftime("%Y-%m-%d"),
        "hr_local": local.strftime("%H"),
        **_interval(facts),
        "event": facts.event if facts.event is not None else {},
        "env": facts.env,
        "run_id": facts.run_id,
        "pipeline_run_id": facts.run_id,
        "effect_id": f"{facts.run_id}.{block.name}",  # the same over all attempts
        "attempt": facts.attempt,
        "retry": {"attempts": facts.attempt},
        "pipeline_uuid": facts.pipeline,
        "block_uuid": block.name,
        "trigger_name": facts.trigger,
        "execution_partition": _partition(facts),
        "configuration": dict(block.configuration),
    }


def _interval(facts: RunFacts) -> dict[str, Any]:
    start, end = facts.interval_start, facts.interval_end
    length = end - start if start is not None and end is not None else None
    return {
        "interval_start_datetime": start,
        "interval_end_datetime": end,
        "interval_seconds": length.total_seconds() if length is not None else None,
        "interval_start_datetime_previous": start - length
        if start is not None and length is not None
        else None,
    }


def _partition(facts: RunFacts) -> str:
    """Name the run as Mage names its folders: by the second for ticks, finer for what came from outside."""
    is_tick = facts.interval_start is not None
    moment = facts.execution_date.strftime("%Y%m%dT%H%M%S" if is_tick else "%Y%m%dT%H%M%S_%f")
    return f"{facts.trigger or facts.pipeline}/{moment}"


def _is_missing(declared: Input, pipeline: Pipeline) -> bool:
    return declared.required and declared.default is None and pipeline.variables.get(declared.name) is None


def _missing_sentence(declared: Input) -> str:
    about = f" ({declared.description})" if declared.description else ""
    return f"input '{declared.name}'{about} is required: give a {declared.type.value}"


def _checked(declared: Input, value: Any) -> Any:
    found = coerce(value, declared.type)
    if declared.choices and found not in declared.choices:
        choices = ", ".join(str(plain(choice)) for choice in declared.choices)
        raise ValueProblem(f"one of {choices}, not {str(plain(found))[:40]!r}")
    return found

"""Reads the typed inputs of a pipeline."""

from __future__ import annotations

from typing import Any

from pipelines.model import Input, InputType
from pipelines.parse_fields import Section, closest, listed, words
from pipelines.values import ValueProblem, coerce

# What every block receives from the run itself; variables of these names never reach a block.
RESERVED_NAMES = words(
    """
    execution_date execution_date_local ds ds_local hr hr_local interval_start_datetime
    interval_end_datetime interval_seconds interval_start_datetime_previous event env run_id
    pipeline_run_id attempt retry pipeline_uuid block_uuid trigger_name execution_partition
    configuration logger effect_id repo_path
    """
)

_KNOWN_KEYS = frozenset(("type", "required", "default", "description", "choices"))


def read_inputs(pipeline: Section) -> tuple[Input, ...]:
    """Return the declared inputs. `month: date` is short for `month: {type: date}`."""
    inputs = pipeline.section("inputs", "`inputs`")
    check_reserved(pipeline, "inputs")
    found = []
    for name, value in inputs.values.items():
        if isinstance(value, str):
            declared = _input_type(inputs, name, name, value)
            found.append(Input(name, declared))
        else:
            found.append(_input(name, inputs.section(name, f"input '{name}'")))
    return tuple(found)


def check_reserved(pipeline: Section, key: str) -> None:
    """Warn of names that a block would never see, because the run itself gives them."""
    names = pipeline.get(key)
    for name in names if isinstance(names, dict) else ():
        if name in RESERVED_NAMES:
            pipeline.findings.warning(
                pipeline.line(key, name),
                f"'{name}' in `{key}` never reaches a block: each run sets it; rename it",
            )


def _input(name: str, section: Section) -> Input:
    section.unknown_keys("input", _KNOWN_KEYS)
    kind = _input_type(section, "type", name, section.text("type", "string"))
    choices = section.get("choices", [])
    if not isinstance(choices, list):
        section.error("choices", "`choices` must be a list of values")
        choices = []
    return Input(
        name=name,
        type=kind,
        required=section.boolean("required", default=False),
        default=_checked(section, "default", kind, section.get("default")),
        description=section.text("description"),
        choices=tuple(_checked(section, "choices", kind, choice) for choice in choices),
    )


def _input_type(section: Section, key: str, name: str, text: str) -> InputType:
    known = [item.value for item in InputType]
    if text in known:
        return InputType(text)
    section.findings.error(
        section.line(key),
        f"input '{name}': the type '{text}' is unknown (known: {listed(known)}){closest(text, known)}",
    )
    return InputType.STRING


def _checked(section: Section, key: str, kind: InputType, value: Any) -> Any:
    if value is None:
        return None
    try:
        return coerce(value, kind)
    except ValueProblem as problem:
        section.error(key, f"`{key}` must be {problem}")
        return None

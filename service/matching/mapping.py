"""From an event to what its run is given: variables, and the date it runs for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from pipelines.errors import MillraceError
from sensors.event import Event
from service.matching.triggers import CompiledTrigger

OF_A_CLOCK = ("schedule.tick", "expectation.missed")  # their time is the due moment itself
_MAX_UNIX_SECONDS = 253_402_300_799  # the last second of the year 9999


class MappingError(MillraceError):
    """An event does not give what its trigger wants of it. One sentence."""


def variables_of(compiled: CompiledTrigger, event: Event, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's variables as JSON can hold them. Raises MappingError and TemplateError.

    Without `variables` in the trigger, those in the body of a webhook count.
    """
    if compiled.trigger.mage:
        return _mage_variables(compiled, event)
    if compiled.variables is not None:
        return _mapping(compiled.variables.evaluate({"event": value}), "the trigger's `variables`")
    return _mapping(_of_body(compiled, event, "variables") or {}, "`variables` of the body")


def execution_date_of(
    compiled: CompiledTrigger, event: Event, value: Mapping[str, Any], now: datetime
) -> datetime:
    """Return the date of the trigger's template, else of the tick, else of a webhook's body, else `now`."""
    if compiled.execution_date is not None:
        return _moment(compiled.execution_date.evaluate(event=value))
    if event.type in OF_A_CLOCK:
        return event.time
    given = _of_body(compiled, event, "execution_date")
    return now if given is None else _moment(given)


def plain(value: Any, where: str) -> Any:
    """Return `value` as JSON holds it, times as ISO text. Raises MappingError naming `where`."""
    match value:
        case None | bool() | int() | str():
            return _storable(value, where)
        case float():
            if not math.isfinite(value):
                raise MappingError(f"{where} is {value}, which JSON cannot hold")
            return value
        case datetime():
            return _iso(value)
        case date():
            return value.isoformat()
        case Mapping():
            return {_name(name, where): plain(item, f"{where}.{name}") for name, item in value.items()}
        case list() | tuple():
            return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise MappingError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


def _mage_variables(compiled: CompiledTrigger, event: Event) -> dict[str, Any]:
    """Mage's order: the trigger's, then those of `pipeline_run`; other keys of the body only where absent."""
    body = event.data if isinstance(event.data, Mapping) else {}
    given = dict(compiled.trigger.spec.get("variables") or {})
    if isinstance(body.get("pipeline_run"), Mapping):
        asked = body["pipeline_run"].get("variables") or {}
        given |= _mapping(asked, "`pipeline_run.variables` of the body")
    others = {name: item for name, item in body.items() if name != "pipeline_run"}
    return _mapping(others | given, "the body")


def _of_body(compiled: CompiledTrigger, event: Event, name: str) -> Any:
    """Return what a webhook's body says under `name`, where the trigger leaves that to it."""
    if event.type != "webhook.received":
        return None
    body = event.data
    if compiled.trigger.mage:
        body = body.get("pipeline_run") if isinstance(body, Mapping) else None
    elif compiled.variables is not None:
        return None
    return body.get(name) if isinstance(body, Mapping) else None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise MappingError(f"{where} must be an object of names and values")
    return {_name(name, where): plain(item, f"variable {name!r}") for name, item in value.items()}


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise MappingError(f"{where} has the name {name!r}, which is not a text")
    return str(_storable(name, where))


def _storable(value: Any, where: str) -> Any:
    if isinstance(value, str):
        if "\x00" in value:
            raise MappingError(f"{where} holds the character NUL")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MappingError(f"{where} holds half of a surrogate pair") from None
    return value


def _iso(moment: datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(value: Any) -> datetime:
    """Read an ISO text, a date or unix seconds; what names no zone is UTC."""
    try:
        match value:
            case datetime():
                moment = value
            case date():
                moment = datetime.combine(value, time(), UTC)
            case str():
                moment = datetime.fromisoformat(value.strip())
            case bool():
                raise ValueError
            case int() | float() if 0 <= value <= _MAX_UNIX_SECONDS:
                moment = datetime.fromtimestamp(value, UTC)
            case _:
                raise ValueError
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        shown = repr(value)[:60]
        raise MappingError(f"execution_date {shown} is not a time; give ISO 8601 or unix seconds") from None

"""Reads the `checks` of a block: what must hold of the tables it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.model import CheckKind, DataCheck
from pipelines.parse_fields import Section, closest, duration_seconds, listed

COLUMN_TYPES = (
    "any",
    "bool",
    "date",
    "datetime",
    "decimal",
    "dict",
    "float",
    "int",
    "list",
    "number",
    "string",
)
_SEVERITIES = ("error", "warning")
_OF = ("now", "execution_date")

_Options = Mapping[str, Any]


def read_checks(block: Section) -> tuple[DataCheck, ...]:
    """Return the checks of a block. Problems go to the section's findings, and leave a check out."""
    found = []
    for section in block.sections("checks", f"{block.what}, a check"):
        check = _check(section, block.what)
        if check is not None:
            found.append(check)
    return tuple(found)


def _check(section: Section, block: str) -> DataCheck | None:
    kinds = [key for key in section.values if key not in ("severity", "extra")]
    if len(kinds) != 1 or kinds[0] not in list(CheckKind):
        known = listed([kind.value for kind in CheckKind])
        hint = closest(str(kinds[0]), list(CheckKind)) if len(kinds) == 1 else ""
        section.findings.error(
            section.line(),
            f"{section.what} has one key that names what is checked, one of {known}; "
            f"this one has {', '.join(map(str, kinds)) or 'none'}{hint}",
        )
        return None
    kind = CheckKind(kinds[0])
    section.what = f"{block}, check {kind}"
    before = section.findings.error_count
    severity = section.text("severity", "error")
    if severity not in _SEVERITIES:
        section.error("severity", f"`severity` must be one of {listed(_SEVERITIES)}, not {severity!r}")
    if "extra" in section and kind is not CheckKind.SCHEMA:
        section.error("extra", "`extra` says something of a `schema` only; take it away")
    columns, options = _READERS[kind](section)
    if section.findings.error_count > before:
        return None
    return DataCheck(kind, columns, options, is_warning=severity == "warning")


def _columns(section: Section) -> tuple[tuple[str, ...], _Options]:
    """Read `not_null: [id]` and `unique: [id]`."""
    kind = next(key for key in section.values if key in list(CheckKind))
    columns = section.texts(kind)
    if not columns:
        section.error(kind, "it names no column; write a list of them")
    return columns, {}


def _range(section: Section) -> tuple[tuple[str, ...], _Options]:
    given = _given(section, "range", ("column", "min", "max"))
    bounds = {key: given.get(key) for key in ("min", "max") if key in given}
    if not bounds:
        given.findings.error(given.line(), f"{given.what} has neither `min` nor `max`; write one of them")
    elif any(isinstance(bound, Mapping | list) for bound in bounds.values()):
        given.findings.error(given.line(), f"{given.what}: `min` and `max` are single values")
    return _column(given), bounds


def _set(section: Section) -> tuple[tuple[str, ...], _Options]:
    given = _given(section, "set", ("column", "values"))
    values = given.get("values")
    if not isinstance(values, list) or not values:
        given.error("values", "`values` must be a list of what is allowed")
        return _column(given), {}
    return _column(given), {"values": tuple(values)}


def _row_count(section: Section) -> tuple[tuple[str, ...], _Options]:
    given = _given(section, "row_count", ("min", "max"))
    bounds = {key: given.count(key) for key in ("min", "max") if key in given}
    if not bounds:
        given.findings.error(given.line(), f"{given.what} has neither `min` nor `max`; write one of them")
    return (), bounds


def _freshness(section: Section) -> tuple[tuple[str, ...], _Options]:
    given = _given(section, "freshness", ("column", "within", "of"))
    of = given.text("of", "now")
    if of not in _OF:
        given.error("of", f"`of` must be one of {listed(_OF)}, not {of!r}")
    try:
        within = duration_seconds(given.get("within", ""))
    except ValueError as error:
        given.error("within", f"`within`: {error}")
        within = 0.0
    return _column(given), {"within": within, "of": of}


def _schema(section: Section) -> tuple[tuple[str, ...], _Options]:
    given = section.section("schema", section.what)
    types, optional = {}, []
    for name, value in given.values.items():
        wanted = value if isinstance(value, Mapping) else {"type": value}
        kind = str(wanted.get("type", "any"))
        if kind not in COLUMN_TYPES:
            hint = closest(kind, COLUMN_TYPES)
            given.error(
                name, f"column '{name}': '{kind}' is no type; use one of {listed(COLUMN_TYPES)}{hint}"
            )
        types[str(name)] = kind
        if wanted.get("required") is False:
            optional.append(str(name))
    if not types:
        section.error("schema", "it names no column; write columns and their types")
    extra = section.boolean("extra", default=True)
    return tuple(types), {"types": types, "optional": tuple(optional), "extra": extra}


def _given(section: Section, key: str, known: tuple[str, ...]) -> Section:
    given = section.section(key, section.what)
    given.unknown_keys(f"{key} check", known)
    return given


def _column(given: Section) -> tuple[str, ...]:
    name = given.text("column")
    if not name:
        given.findings.error(given.line(), f"{given.what}: `column` must name a column")
    return (name,)


_READERS: Mapping[CheckKind, Callable[[Section], tuple[tuple[str, ...], _Options]]] = {
    CheckKind.NOT_NULL: _columns,
    CheckKind.UNIQUE: _columns,
    CheckKind.RANGE: _range,
    CheckKind.SET: _set,
    CheckKind.ROW_COUNT: _row_count,
    CheckKind.FRESHNESS: _freshness,
    CheckKind.SCHEMA: _schema,
}

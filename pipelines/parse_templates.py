"""Checks the templates of triggers as they are read, so that no event is the first to find a fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pipelines.parse_fields import Section, listed
from pipelines.templating import Expression, TemplateError, expression, is_template

TRIGGER_NAMES = frozenset(("event",))  # what templates of a trigger can speak of
_ALWAYS = frozenset(("range",))


def check_template(section: Section, key: str, names: Collection[str]) -> Expression | None:
    """Compile the template under `key`, if there is one; report what is wrong with it."""
    value = section.get(key)
    return _check(section, (key,), value, names) if is_template(value) else None


def check_single(section: Section, key: str, names: Collection[str]) -> None:
    """Report what is no single `{{ expression }}`, true or false: any other text would count as true."""
    value = section.get(key)
    if value is None or isinstance(value, bool):
        return
    if not is_template(value):
        section.error(
            key, f'`{key}` must be one expression in braces, such as "{{{{ event.data.size > 0 }}}}"'
        )
        return
    compiled = check_template(section, key, names)
    if compiled is not None and not compiled.is_single:
        section.error(key, f"`{key}` must be one expression; text beside it would always count as true")


def check_mapping(section: Section, key: str, names: Collection[str]) -> None:
    """Report every wrong template in the mapping under `key`."""
    for name, value in section.mapping(key).items():
        _check_tree(section, (key, name), value, names)


def check_values(section: Section, key: str, names: Collection[str]) -> None:
    """Report every wrong template in the text or list under `key`."""
    _check_tree(section, (key,), section.get(key), names)


def _check_tree(section: Section, path: tuple[str | int, ...], value: Any, names: Collection[str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_tree(section, (*path, key), item, names)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_tree(section, (*path, index), item, names)
    elif is_template(value):
        _check(section, path, value, names)


def _check(
    section: Section, path: tuple[str | int, ...], text: str, names: Collection[str]
) -> Expression | None:
    where = ".".join(str(step) for step in path)
    try:
        compiled = expression(text)
    except TemplateError as error:
        section.findings.error(section.line(*path), f"{section.what}: `{where}`: {error.message}")
        return None
    unknown = compiled.names - set(names) - _ALWAYS
    if unknown:
        section.findings.error(
            section.line(*path),
            f"{section.what}: `{where}` uses {listed(unknown)}, which is not known there "
            f"(known: {listed(names)})",
        )
    return compiled

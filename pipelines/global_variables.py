"""Reads and writes the variables that a pipeline's `metadata.yaml` declares.

A run keeps the variables it began with: what is written here is for the runs that begin later.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from pipelines.context import current_block
from pipelines.errors import TerminalError
from pipelines.parse_inputs import RESERVED_NAMES
from pipelines.parse_yaml import YamlFault, read_yaml
from pipelines.round_trip import changed_yaml, replace_file

_PIPELINE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE = "pipelines/{}/metadata.yaml"


class VariableError(TerminalError):
    """A variable that cannot be read or written; the message says which, and why."""


def get_global_variables(pipeline_uuid: str, *, root: Path | None = None) -> dict[str, Any]:
    """Return all variables that the pipeline declares now. `root`: the project, outside of blocks."""
    file = _file_of(pipeline_uuid, root)
    try:
        document = read_yaml(_text_of(file, pipeline_uuid))
    except YamlFault as fault:
        raise VariableError(f"{_FILE.format(pipeline_uuid)}:{fault.line}: {fault.message}") from fault
    variables = document.value.get("variables") if isinstance(document.value, Mapping) else None
    return dict(variables) if isinstance(variables, Mapping) else {}


def get_global_variable(pipeline_uuid: str, key: str, *, root: Path | None = None) -> Any:
    """Return a variable that the pipeline declares now; None when it declares none of that name."""
    return get_global_variables(pipeline_uuid, root=root).get(key)


def set_global_variable(pipeline_uuid: str, key: str, value: Any, *, root: Path | None = None) -> None:
    """Write a variable into the pipeline's `metadata.yaml`; comments and order stay as they are.

    The file is replaced as a whole, so that nobody ever reads half of it. `value` may be a number, a text, a
    truth value, a date, or lists and dicts of these. Raises VariableError.
    """
    _check_name(key)
    _check_value(key, value)

    def write(variables: Any) -> None:
        variables[key] = value

    _change(pipeline_uuid, root, write)


def delete_global_variable(pipeline_uuid: str, key: str, *, root: Path | None = None) -> None:
    """Take a variable out of the pipeline's `metadata.yaml`. One that is not there is no error."""

    def remove(variables: Any) -> None:
        variables.pop(key, None)

    _change(pipeline_uuid, root, remove)


def _change(pipeline: str, root: Path | None, change: Callable[[Any], None]) -> None:
    file = _file_of(pipeline, root)
    _text_of(file, pipeline)  # or it says what is wrong
    with _turn(file.parent):
        before = _text_of(file, pipeline)
        after = _changed(before, pipeline, change)
        if after != before:
            replace_file(file, after)


def _changed(text: str, pipeline: str, change: Callable[[Any], None]) -> str:
    def within(document: Any) -> None:
        if not isinstance(document, MutableMapping):
            raise VariableError(f"{_FILE.format(pipeline)} must be a mapping of keys and values")
        if not isinstance(document.get("variables"), Mapping):
            document["variables"] = {}
        change(document["variables"])

    try:
        return changed_yaml(text, within)
    except YAMLError as error:
        raise VariableError(f"{_FILE.format(pipeline)} is no YAML that can be written: {error}") from error


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Keep other blocks from writing the same file between our reading and our writing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _file_of(pipeline: str, root: Path | None) -> Path:
    """Return the pipeline's file, which lies in the project and nowhere else."""
    if not _PIPELINE.fullmatch(str(pipeline)):
        raise VariableError(f"{pipeline!r} cannot name a pipeline; it has letters, digits, '_', '-' and '.'")
    project = _root(root).resolve()
    file = (project / _FILE.format(pipeline)).resolve()
    if not file.is_relative_to(project):
        raise VariableError(f"{_FILE.format(pipeline)} lies outside of the project, and stays as it is")
    return file


def _root(given: Path | None) -> Path:
    context = current_block.get()
    if context is not None:
        if given is not None and Path(given).resolve() != context.root.resolve():
            raise VariableError(f"a block changes its own project only, not {str(given)!r}")
        return context.root
    return Path.cwd() if given is None else Path(given)


def _text_of(file: Path, pipeline: str) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise VariableError(
            f"there is no pipeline {pipeline!r}: {_FILE.format(pipeline)} is missing"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise VariableError(f"{_FILE.format(pipeline)} cannot be read: {error}") from error


def _check_name(key: str) -> None:
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise VariableError(f"{key!r} cannot name a variable; it must be a name as Python has them")
    if key in RESERVED_NAMES:
        raise VariableError(f"the variable {key!r} would never reach a block: each run sets it; rename it")


def _check_value(key: str, value: Any) -> None:
    if value is None or isinstance(value, (str, bool, int, float, date)):
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise VariableError(f"the variable {key!r} has the key {name!r}, which is no text")
            _check_value(key, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_value(key, item)
    else:
        raise VariableError(
            f"the variable {key!r} cannot be written as YAML: it is, or holds, a {type(value).__name__}; "
            "give numbers, texts, truth values, dates, lists and dicts"
        )

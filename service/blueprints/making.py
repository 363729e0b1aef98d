"""Makes blocks and pipelines in a project: new files, and a new entry in a pipeline's YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from pipelines.errors import MillraceError
from pipelines.model import ADD_ONS, BlockType
from pipelines.parse_fields import closest
from pipelines.round_trip import changed_yaml, replace_file
from service.blueprints.catalog import EXTENSIONS, Template

_PIPELINE = """\
name: {name}
type: python
blocks: []
"""
_NAME = re.compile(r"\w[\w .-]*(?:/\w[\w .-]*)*")


class MakingRefused(MillraceError):
    """What was asked for cannot be made: a file is there already, a name is wrong, a pipeline unknown."""


@dataclass(frozen=True)
class NewBlock:
    """A block to be made."""

    name: str
    template: Template
    upstream: tuple[str, ...] = ()

    @property
    def type(self) -> BlockType:
        return BlockType(self.template.type)

    @property
    def path(self) -> str:
        return f"{self.type.folder}/{self.name}.{EXTENSIONS[self.template.language]}"

    @property
    def entry(self) -> dict[str, Any]:
        """What a pipeline's YAML says of it."""
        entry: dict[str, Any] = {
            "name": self.name,
            "type": self.template.type,
            "language": self.template.language,
            "upstream_blocks": list(self.upstream),
        }
        if self.template.configuration:
            entry["configuration"] = dict(self.template.configuration)
        return entry


def make_block(root: Path, block: NewBlock, pipeline: str | None) -> list[str]:
    """Write the block's file and its entry in the pipeline; return the paths that were written.

    Raises MakingRefused, and then nothing was written.
    """
    _check_name(block.name)
    file = root / block.path
    if file.exists():
        raise MakingRefused(f"{block.path} is there already; take another name")
    if pipeline is None:
        _write(file, block.template.code)
        return [block.path]
    declared = _pipeline_file(root, pipeline)
    text = _with_entry(declared, root, block)
    _write(file, block.template.code)
    replace_file(declared, text)
    return [block.path, declared.relative_to(root).as_posix()]


def make_pipeline(root: Path, name: str) -> list[str]:
    """Write an empty pipeline; return the paths that were written. Raises MakingRefused."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise MakingRefused(f"{name!r} cannot name a pipeline; it has letters, digits, '_', '-' and '.'")
    file = root / "pipelines" / name / "metadata.yaml"
    if file.exists():
        raise MakingRefused(f"{file.relative_to(root)} is there already; take another name")
    _write(file, _PIPELINE.format(name=name))
    return [file.relative_to(root).as_posix()]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or ".." in name:
        raise MakingRefused(f"{name!r} cannot name a block; it may have letters, digits, _ - . and / only")


def _pipeline_file(root: Path, pipeline: str) -> Path:
    known = sorted(file.parent.name for file in (root / "pipelines").glob("*/metadata.yaml"))
    if pipeline not in known:
        there = f"there are {', '.join(known)}" if known else "there is none"
        raise MakingRefused(f"there is no pipeline {pipeline!r} ({there}){closest(pipeline, known)}")
    return root / "pipelines" / pipeline / "metadata.yaml"


def _with_entry(file: Path, root: Path, block: NewBlock) -> str:
    shown = file.relative_to(root)

    def add(document: Any) -> None:
        if not isinstance(document, dict):
            raise MakingRefused(f"{shown} must be a mapping of keys and values")
        declared = document.get("blocks") or []
        everything = [entry for key in _LISTS for entry in document.get(key) or []]
        _check_entry(str(shown), block, [_name_of(entry) for entry in declared], everything)
        _append(document, block.type.folder if block.type in ADD_ONS else "blocks", block.entry)
        if block.type not in ADD_ONS:
            _tell_upstream(declared, block)

    try:
        return changed_yaml(file.read_text("utf-8-sig"), add)
    except YAMLError as error:
        raise MakingRefused(f"{shown} is no YAML that can be written: {error}") from error


_LISTS = ("blocks", BlockType.CONDITIONAL.folder, BlockType.CALLBACK.folder)


def _check_entry(shown: str, block: NewBlock, names: Sequence[str], everything: Sequence[Any]) -> None:
    if block.name in [_name_of(entry) for entry in everything]:
        raise MakingRefused(f"{shown} declares a block {block.name!r} already; take another name")
    for upstream in block.upstream:
        if upstream not in names:
            raise MakingRefused(f"{shown} declares no block {upstream!r}{closest(upstream, names)}")


def _name_of(entry: Any) -> str:
    return str(entry.get("uuid") or entry.get("name")) if isinstance(entry, Mapping) else ""


def _append(document: Any, key: str, entry: Mapping[str, Any]) -> None:
    found = document.get(key)
    if found:
        found.append(entry)
    else:
        document[key] = [entry]  # in the place of `[]`, which would go on in one line


def _tell_upstream(declared: Sequence[Any], block: NewBlock) -> None:
    """Name the block in `downstream_blocks` of those above it that keep such a list, as Mage does."""
    for entry in declared:
        if _name_of(entry) in block.upstream and isinstance(entry.get("downstream_blocks"), list):
            entry["downstream_blocks"].append(block.name)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as sink:
            sink.write(text)
    except OSError as error:
        raise MakingRefused(f"cannot write {file}: {error.strerror}") from error

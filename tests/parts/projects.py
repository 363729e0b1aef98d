"""Writes small projects for tests: a pipeline is a list of blocks, each with its code."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDERS = {
    "data_loader": "data_loaders",
    "transformer": "transformers",
    "data_exporter": "data_exporters",
    "custom": "custom",
    "sensor": "sensors",
    "global_data_product": "global_data_products",
}


@dataclass(frozen=True)
class BlockFile:
    """A block of a test's pipeline. `keys` are further keys of its YAML."""

    name: str
    code: str
    type: str = "custom"
    upstream: Sequence[str] = ()
    language: str = "python"
    keys: Mapping[str, Any] = field(default_factory=dict)


def write_project(
    root: Path, *, name: str = "demo", files: Mapping[str, str] | None = None, **settings: Any
) -> Path:
    """Make a project folder with further `files` (path -> text) and `settings`, and return it."""
    write(root / "metadata.yaml", json.dumps({"name": name, **settings}, indent=1))
    for path, text in (files or {}).items():
        write(root / path, textwrap.dedent(text))
    return root


def write_pipeline(
    root: Path,
    name: str,
    blocks: Sequence[BlockFile],
    *,
    triggers: Sequence[Mapping[str, Any]] = (),
    **keys: Any,
) -> None:
    """Add a pipeline, its blocks' code and its triggers to the project at `root`."""
    document = {"name": name, "type": "python", **keys, "blocks": [_declaration(block) for block in blocks]}
    # JSON is YAML, and needs no writer of its own.
    write(root / "pipelines" / name / "metadata.yaml", json.dumps(document, indent=1))
    if triggers:
        write(root / "pipelines" / name / "triggers.yaml", json.dumps({"triggers": list(triggers)}, indent=1))
    for block in blocks:
        ending = "py" if block.language == "python" else block.language
        write(root / FOLDERS[block.type] / f"{block.name}.{ending}", textwrap.dedent(block.code))


def open_webhook(name: str = "hook", **keys: Any) -> dict[str, Any]:
    """Return a webhook trigger without verification that passes the body's fields on as `data`."""
    return {"name": name, "type": "webhook", "verify": "none", **keys}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _declaration(block: BlockFile) -> dict[str, Any]:
    return {
        "name": block.name,
        "uuid": block.name,
        "type": block.type,
        "language": block.language,
        "upstream_blocks": list(block.upstream),
        **block.keys,
    }

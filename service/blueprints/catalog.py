"""The templates of blocks: ours, and those that a project keeps in `custom_templates/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipelines.errors import MillraceError
from pipelines.parse_yaml import YamlFault, read_yaml

EXTENSIONS = {"python": "py", "sql": "sql", "r": "r", "yaml": "yaml"}
CUSTOM_FOLDER = "custom_templates/blocks"


@dataclass(frozen=True)
class Template:
    """The beginning of a block."""

    name: str
    type: str
    language: str
    about: str
    code: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False  # of the project


class TemplateFault(MillraceError):
    """A template of the project that cannot be read."""


def own_templates() -> list[Template]:
    """Return the templates that come with Millrace."""
    folder = files("service.blueprints")
    return [
        Template(
            entry["name"],
            entry["type"],
            entry["language"],
            entry["about"],
            (folder / "blocks" / entry["file"]).read_text("utf-8"),
            entry.get("configuration") or {},
        )
        for entry in read_yaml((folder / "catalog.yaml").read_text("utf-8")).value
    ]


def project_templates(root: Path) -> list[Template]:
    """Return the templates of a project, as Mage keeps them. Raises TemplateFault."""
    return [_of_project(file, root) for file in sorted((root / CUSTOM_FOLDER).glob("*/metadata.yaml"))]


def _of_project(file: Path, root: Path) -> Template:
    name, shown = file.parent.name, file.relative_to(root)
    try:
        given = read_yaml(file.read_text("utf-8-sig")).value
    except (YamlFault, OSError, UnicodeDecodeError) as error:
        raise TemplateFault(f"{shown}: {error}") from error
    if not isinstance(given, Mapping) or not given.get("block_type"):
        raise TemplateFault(f"{shown} names no `block_type`")
    language = str(given.get("language") or "python")
    code = file.parent / f"{name}.{EXTENSIONS.get(language, 'py')}"
    if not code.is_file():
        raise TemplateFault(f"{shown}: its code is missing; write it to {code.relative_to(root)}")
    configuration = given.get("configuration")
    return Template(
        name,
        str(given["block_type"]),
        language,
        str(given.get("description") or given.get("name") or ""),
        code.read_text("utf-8"),
        configuration if isinstance(configuration, Mapping) else {},
        is_own=True,
    )

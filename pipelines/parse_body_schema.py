"""Reads a webhook's `schema`: what its bodies must look like, in the trigger or in a file of the project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.parse_blocks import Sources
from pipelines.parse_fields import Section
from pipelines.parse_yaml import YamlFault, read_yaml
from pipelines.values import plain

MAX_SCHEMA_CHARACTERS = 200_000


def read_body_schema(section: Section, sources: Sources | None) -> dict[str, Any] | None:
    """Return the schema as plain values, read from its file where a path is given."""
    value = section.get("schema")
    if isinstance(value, str):
        value = _of_file(section, value, sources)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        section.error("schema", "`schema` must be a JSON Schema, or the path of a file that holds one")
        return None
    return dict(plain(value))


def _of_file(section: Section, path: str, sources: Sources | None) -> Any:
    try:
        if sources is None:
            raise FileNotFoundError(path)
        text = sources.read(path)
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise ValueError(f"it has more than {MAX_SCHEMA_CHARACTERS:,} characters")
        return json.loads(text) if path.endswith(".json") else read_yaml(text).value
    except FileNotFoundError:
        section.error("schema", f"there is no {path!r} in the project; `schema` is a path from its root")
    except YamlFault as fault:
        section.error("schema", f"{path}, line {fault.line}: {fault.message}")
    except (OSError, ValueError, RecursionError) as error:
        section.error("schema", f"{path} cannot be read: {error}")
    return None

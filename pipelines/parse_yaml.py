"""YAML to plain values, with the line of every key and within bounds.

ruamel composes the tree of nodes; the values are built here, because its own constructors either lose
the lines or return types that leak into everything downstream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipelines.errors import MillraceError

MAX_CHARACTERS = 2_000_000
MAX_DEPTH = 50
MAX_OPEN_BRACKETS = 200  # more than MAX_DEPTH, since brackets in texts are counted, too
MAX_NODES = 200_000  # counted after aliases are followed, so that a few lines cannot become a billion

Path = tuple[str | int, ...]

_BRACKET = re.compile(r"[\[\]{}]")
_MERGE_TAG = "tag:yaml.org,2002:merge"
_STRING_TAG = "tag:yaml.org,2002:str"
_STANDARD_PREFIX = "tag:yaml.org,2002:"


class YamlFault(MillraceError):
    """A text that is no usable YAML. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document as plain values, and where everything stands in its file."""

    value: Any = None
    lines: Mapping[Path, int] = field(default_factory=dict)
    plain: frozenset[Path] = frozenset()  # the strings that were written without quotes
    repeated_keys: tuple[tuple[str, int], ...] = ()  # (key, line); the last one of them counts

    def line(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest thing around it that has one."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 1


def read_yaml(text: str) -> Document:
    """Parse one document. Raises YamlFault, with the line and a sentence."""
    if len(text) > MAX_CHARACTERS:
        raise YamlFault(1, f"the file has more than {MAX_CHARACTERS:,} characters; split it")
    _check_brackets(text)
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        return _Builder(yaml.constructor).document(root)
    except MarkedYAMLError as error:
        raise YamlFault(_line_of(text, error), _sentence(text, error)) from error
    except RecursionError as error:
        raise YamlFault(1, f"the YAML is nested deeper than {MAX_DEPTH} levels; flatten it") from error
    except (YAMLError, ValueError) as error:
        raise YamlFault(_line_of_character(text, error), f"the YAML cannot be read: {error}") from error


def _check_brackets(text: str) -> None:
    """Refuse hundreds of open brackets before ruamel sees them: it needs the square of their number."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match[0] in "[{" else -1
        if depth > MAX_OPEN_BRACKETS:
            line = text.count("\n", 0, match.start()) + 1
            raise YamlFault(line, f"the YAML is nested deeper than {MAX_DEPTH} levels; flatten it")


def _line_of(text: str, error: MarkedYAMLError) -> int:
    """Return where the fault is; of what was never closed, where it was opened."""
    mark = error.problem_mark
    if mark is None or (mark.index >= len(text) and error.context_mark is not None):
        mark = error.context_mark
    return mark.line + 1 if mark is not None else 1


def _sentence(text: str, error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "it cannot be read")
    hint = ""
    if "{{" in text and "flow mapping" in f"{problem} {error.context}":
        hint = '; a template needs quotes around it: "{{ ... }}"'
    elif "found character" in problem and "\\t" in problem:
        hint = "; indent with spaces, not tabs"
    elif "mapping values are not allowed" in problem:
        hint = "; check the indentation, and put quotes around values with a colon"
    return f"bad YAML: {problem}{hint}"


def _line_of_character(text: str, error: Exception) -> int:
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else 1


class _Builder:
    def __init__(self, constructor: Any) -> None:
        self._constructor = constructor
        self._lines: dict[Path, int] = {}
        self._plain: set[Path] = set()
        self._repeated: list[tuple[str, int]] = []
        self._nodes = 0

    def document(self, root: Node | None) -> Document:
        if root is None:
            return Document()
        value = self._value(root, ())
        return Document(value, self._lines, frozenset(self._plain), tuple(self._repeated))

    def _value(self, node: Node, path: Path) -> Any:
        self._count(node, path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._lines[(*path, index)] = item.start_mark.line + 1
                items.append(self._value(item, (*path, index)))
            return items
        return self._scalar(cast(ScalarNode, node), path)

    def _count(self, node: Node, path: Path) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise YamlFault(node.start_mark.line + 1, f"the YAML has more than {MAX_NODES:,} values")
        if len(path) > MAX_DEPTH:
            raise YamlFault(node.start_mark.line + 1, f"the YAML is nested deeper than {MAX_DEPTH} levels")

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        tag = str(node.tag)
        if not tag.startswith(_STANDARD_PREFIX):
            raise YamlFault(
                node.start_mark.line + 1, f"the YAML tag '{tag}' is not allowed; write plain values"
            )
        if tag == _STRING_TAG:
            if node.style is None:
                self._plain.add(path)
            return str(node.value)
        try:
            return self._constructor.construct_object(node)
        except ValueError as error:  # such as the date 2024-02-30
            line = node.start_mark.line + 1
            raise YamlFault(
                line, f"bad YAML: '{node.value}' is not a value ({error}); quote it if it is text"
            ) from error

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged |= self._merged(value_node, path)
                continue
            key = self._key(key_node)
            line = key_node.start_mark.line + 1
            if key in result:
                self._repeated.append((key, line))
            self._lines[(*path, key)] = line
            result[key] = self._value(value_node, (*path, key))
        return merged | result

    def _key(self, node: Node) -> str:
        line = node.start_mark.line + 1
        if not isinstance(node, ScalarNode):
            raise YamlFault(line, 'bad YAML: a key must be plain text; a template needs quotes: "{{ ... }}"')
        return str(node.value)

    def _merged(self, node: Node, path: Path) -> dict[str, Any]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        result: dict[str, Any] = {}
        for source in reversed(sources):
            value = self._value(source, path)
            if not isinstance(value, dict):
                raise YamlFault(node.start_mark.line + 1, "bad YAML: '<<' must name a mapping")
            result |= value
        return result

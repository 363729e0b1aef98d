"""YAML with Jinja in it, as Mage's `metadata.yaml` and `io_config.yaml` have it, quoted or not.

Mage renders the whole file and parses the result. Here the file is parsed first, with every `{{ ... }}`
standing as one word, so that each value can be rendered by itself when it is needed: an unset variable in one
value breaks no other, and no value can change the structure of the file.
"""

from __future__ import annotations

import re
from typing import Any

from pipelines.parse_yaml import Document, YamlFault, read_yaml

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_STATEMENT = re.compile(r"\{%")
_STATEMENTS = re.compile(r"\{%.*?%\}", re.DOTALL)
_WORD = "millrace_template_{}_"
_WORDS = re.compile(r"millrace_template_(\d+)_")


def has_statements(text: str) -> bool:
    return _STATEMENT.search(text) is not None


def without_statements(text: str) -> str:
    """Return the text without `{% ... %}`; what stands between them stays, each line in its place."""
    return _STATEMENTS.sub(lambda match: "\n" * match[0].count("\n"), text)


def read_templated(text: str) -> Document:
    """Parse YAML; texts in the result hold their templates as they were written. Raises YamlFault."""
    if has_statements(text):
        line = text.count("\n", 0, text.index("{%")) + 1
        raise YamlFault(line, "statements such as {% if %} are not allowed here; use {{ expressions }}")
    templates: list[str] = []

    def hide(match: re.Match[str]) -> str:
        if match[0].startswith("{#"):
            return "\n" * match[0].count("\n")
        templates.append(match[0])
        return _WORD.format(len(templates) - 1)

    document = read_yaml(_TEMPLATE.sub(hide, text))
    return Document(_shown(document.value, templates), document.lines, document.plain, document.repeated_keys)


def _shown(value: Any, templates: list[str]) -> Any:
    """Put the templates back in the place of their words."""
    if isinstance(value, dict):
        return {key: _shown(item, templates) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, templates) for item in value]
    if isinstance(value, str):
        return _WORDS.sub(lambda match: templates[int(match[1])], value)
    return value

"""Renders the options of triggers: `env_var`, `secret` and their kin, evaluated when the service wires."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from pipelines.secrets import Secrets
from pipelines.templating import file_functions, is_template, render_value


class Rendering:
    """Walks plain values and renders the texts in them that hold a template."""

    def __init__(self, environ: Mapping[str, str], secrets: Secrets) -> None:
        self._functions = file_functions(environ, secrets)
        self._secrets = secrets

    def stamp(self) -> Hashable:
        """Return what is another once a secret has changed."""
        return self._secrets.stamp()

    def tree(self, value: Any, *, where: str) -> Any:
        """Return `value` with every text rendered. Raises MillraceError with what is missing, and where."""
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, Mapping):
            return {name: self.tree(item, where=where) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(item, where=where) for item in value]
        return value

    def _text(self, text: str, where: str) -> str:
        return render_value(text, where=where, functions=self._functions) if is_template(text) else text

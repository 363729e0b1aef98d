"""Templates in the configuration and the YAML of blocks: what they may name and call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError
from pipelines.template_limits import TemplateError
from pipelines.templating import render_tree


def rendered(context: BlockContext, value: Any, *, where: str) -> Any:
    """Return a value of dicts, lists and leaves with its templates evaluated; undefined names are errors.

    Raises BlockCodeError that begins with `where` it stands.
    """
    try:
        return render_tree(value, names(context))
    except TemplateError as error:
        raise BlockCodeError(f"{where}: {error}") from error


def names(context: BlockContext) -> dict[str, Any]:
    """Return all that such a template may name: keywords of the block, `variables`, `env_var`, secrets."""
    return {**keywords(context), **context.profiles.functions, "variables": _variables(context.keywords)}


def keywords(context: BlockContext) -> dict[str, Any]:
    """Return what the block receives by keyword and that is data."""
    return {name: value for name, value in context.keywords.items() if name not in ("logger", "context")}


def _variables(given: Mapping[str, Any]) -> Callable[[str], Any]:
    def variables(name: str) -> Any:
        if name not in given:
            raise TemplateError(f"variables({name!r}): the run has no such variable")
        return given[name]

    return variables

"""The SQL of a block as a template: rendered, and searched for values that might be read as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template

from pipelines.template_lambdas import Lambda, without_lambdas
from pipelines.template_places import PlacedText, Places
from pipelines.template_sandbox import SQL_SANDBOX
from pipelines.template_sql import STANDARD_WORDS, WORDS, SqlWords, unsafe_values
from pipelines.templating import generated, guard_source, template_error


def render_sql(
    text: str, names: Mapping[str, Any], *, words: SqlWords = STANDARD_WORDS, file: str = "the SQL"
) -> PlacedText:
    """Render the SQL of a block; undefined names are errors. Raises TemplateError with the line."""
    guard_source(text)
    try:
        compiled = _compiled_sql(text)
        picked = {one.name: one.function(file) for one in compiled.lambdas}
        return compiled.places.read(generated(compiled.template, {**names, **picked, WORDS: words}))
    except Exception as error:
        raise template_error(error, file) from error


@dataclass(frozen=True, slots=True)
class _CompiledSql:
    template: Template
    places: Places
    lambdas: tuple[Lambda, ...]


@lru_cache(maxsize=256)
def _compiled_sql(text: str) -> _CompiledSql:
    """Compile a template once in a process: the block that has it runs for one event after the other."""
    text, lambdas = without_lambdas(text)
    places = Places()
    return _CompiledSql(SQL_SANDBOX.from_string(places.marked(SQL_SANDBOX, text)), places, lambdas)


def check_sql(text: str) -> list[tuple[int, str]]:
    """Return (line, sentence) for each value in the SQL of a block that might be read as SQL itself.

    Raises TemplateError when the text is no template that can be rendered.
    """
    guard_source(text)
    try:
        text, _ = without_lambdas(text)
        SQL_SANDBOX.compile(text)
        return list(unsafe_values(SQL_SANDBOX.parse(text), text))
    except Exception as error:
        raise template_error(error, "the SQL") from error

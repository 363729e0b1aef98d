"""Executes conditionals and callbacks: files beside a block that say, or hear, what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.blocks.calling import call_with_what_fits, is_true, takes_inputs
from pipelines.blocks.python import loaded
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError

_OLDER_NAMES = {"on_success": "success", "on_failure": "failure"}


def first_false(context: BlockContext, inputs: Sequence[Any]) -> str | None:
    """Call the conditions of a conditional's file; return the name of the first that is false, or None.

    Whatever the file or a condition raises comes out as it is.
    """
    with loaded(context, inputs) as collector:
        conditions = collector.of("condition")
        if not conditions:
            raise BlockCodeError(
                f"{context.block.path}: conditional {context.block.name!r} needs a function decorated with "
                f"@condition; it has none"
            )
        for condition in conditions:
            answer = call_with_what_fits(condition, inputs, context.keywords)
            if not is_true(answer, condition, context.block.path):
                return condition.__name__
    return None


def call_back(context: BlockContext, status: str, output: Any, inputs: Mapping[str, Any]) -> None:
    """Call the functions of a callback's file that are for this end of the block it stands beside.

    `output` is what the block returned, None where it failed. A function that takes keywords only gets it and
    the block's inputs as `__input`. Whatever is raised comes out as it is.
    """
    with loaded(context, ()) as collector:
        for name, arguments, function in collector.decorated():
            if not _is_for(name, arguments, status):
                continue
            if name in _OLDER_NAMES or not takes_inputs(function, context.keywords):
                call_with_what_fits(function, (), {**context.keywords, "__input": inputs})
            else:
                call_with_what_fits(function, (output,), context.keywords)


def _is_for(decorator: str, arguments: Sequence[Any], status: str) -> bool:
    """Say whether a decorated function hears of this end; a bare @callback hears of every one."""
    if decorator in _OLDER_NAMES:
        return _OLDER_NAMES[decorator] == status
    return decorator == "callback" and (not arguments or status in arguments)

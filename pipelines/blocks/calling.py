"""Calls functions of block files with as much of what there is for them as they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.errors import BlockCodeError

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def chosen_keywords(
    parameters: list[inspect.Parameter], taken: int, offered: Mapping[str, Any]
) -> dict[str, Any]:
    """Choose the keywords the function can take and that no input has taken by position."""
    positional = [parameter for parameter in parameters if parameter.kind in POSITIONAL]
    filled = {parameter.name for parameter in positional[:taken]}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return {name: value for name, value in offered.items() if name not in filled}
    by_name = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME} - filled
    return {name: value for name, value in offered.items() if name in by_name}


def call_with_what_fits(
    function: Callable[..., Any], inputs: Sequence[Any], offered: Mapping[str, Any]
) -> Any:
    """Call the function with the first inputs, as many as it takes, and the keywords it takes.

    A parameter whose name is among the keywords is filled by them, unless nothing before it takes an input.
    """
    parameters = parameters_of(function)
    arguments = list(inputs)
    if not any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        arguments = arguments[: sum(_takes_an_input(parameter, offered) for parameter in parameters)]
    return function(*arguments, **chosen_keywords(parameters, len(arguments), offered))


def takes_inputs(function: Callable[..., Any], offered: Mapping[str, Any]) -> bool:
    """Say whether the function takes anything by position that no keyword is for."""
    return any(
        parameter.kind is inspect.Parameter.VAR_POSITIONAL or _takes_an_input(parameter, offered)
        for parameter in parameters_of(function)
    )


def _takes_an_input(parameter: inspect.Parameter, offered: Mapping[str, Any]) -> bool:
    return parameter.kind in POSITIONAL and parameter.name not in offered


def is_true(answer: Any, function: Callable[..., Any], path: str) -> bool:
    """Say whether a condition or a sensor has said yes. BlockCodeError for what is no answer."""
    if inspect.isawaitable(answer) or inspect.isgenerator(answer) or inspect.isasyncgen(answer):
        raise _no_answer(answer, function, path)
    try:
        return bool(answer)
    except ValueError as error:  # frames and arrays
        raise _no_answer(answer, function, path) from error


def _no_answer(answer: Any, function: Callable[..., Any], path: str) -> BlockCodeError:
    name = getattr(function, "__name__", "the function")
    return BlockCodeError(
        f"{path}: {name}() returned a {type(answer).__name__}, which says neither yes nor no; "
        f"return True or False"
    )

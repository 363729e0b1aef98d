"""Python functions in SQL templates: `block_output('x', parse=lambda data, variables: ...)`, as in Mage.

Jinja knows no lambda. Each is taken out and a name put in its place; whoever renders the text gives the name
its function. Line breaks stay where they were.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.template_limits import TemplateError

_CALL = re.compile(r"\bblock_output\s*\(")
_LAMBDA = re.compile(r"\blambda\b")
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class Lambda:
    """One function: its code, the name that stands for it, and the line it begins in."""

    name: str
    code: str
    line: int

    def function(self, file: str) -> Callable[..., Any]:
        """Return the function that the code makes; a traceback of it shows the line in `file`."""
        tree = ast.parse("\n" * (self.line - 1) + f"({self.code}\n)", filename=file, mode="eval")
        made: Callable[..., Any] = eval(compile(tree, file, "eval"), {})  # noqa: S307 - code of the project, as blocks are
        return made


def without_lambdas(text: str) -> tuple[str, tuple[Lambda, ...]]:
    """Return the text with names in the place of lambdas. Raises TemplateError for one that is no Python."""
    found: list[Lambda] = []
    done, at = "", 0
    for call in _CALL.finditer(text):
        if call.end() < at:
            continue  # within the lambda of another call
        end = _end_of_call(text, call.end())
        begin = _LAMBDA.search(text, call.end(), end)
        if begin is None or _is_quoted(text, call.end(), begin.start()):
            continue
        one = _lambda(text, begin.start(), end, len(found))
        found.append(one)
        done += text[at : begin.start()] + one.name.ljust(len(one.code)) + "\n" * one.code.count("\n")
        at = begin.start() + len(one.code)
    return done + text[at:], tuple(found)


def _lambda(text: str, start: int, end: int, number: int) -> Lambda:
    """Read the lambda that begins at `start`: up to the end of the call, or to a comma before it."""
    line = text.count("\n", 0, start) + 1
    ends = [end, *reversed(_commas(text, start, end))]
    for stop in ends:
        code = text[start:stop].rstrip()
        if _is_lambda(code):
            return Lambda(f"lambda_{number}__", code, line)
    raise TemplateError(f"line {line}: the lambda in block_output(...) is no Python: {text[start:end]}", line)


def _is_lambda(code: str) -> bool:
    try:
        return isinstance(ast.parse(f"({code}\n)", mode="eval").body, ast.Lambda)
    except SyntaxError:
        return False


def _end_of_call(text: str, start: int) -> int:
    """Return where the bracket that was opened before `start` is closed."""
    return next((place for place, depth in _outside_quotes(text, start) if depth < 0), len(text))


def _commas(text: str, start: int, end: int) -> list[int]:
    found = _outside_quotes(text, start)
    return [place for place, depth in found if place < end and depth == 0 and text[place] == ","]


def _is_quoted(text: str, start: int, place: int) -> bool:
    return all(found != place for found, _ in _outside_quotes(text, start) if found <= place)


def _outside_quotes(text: str, start: int) -> list[tuple[int, int]]:
    """Return each place outside of quotes with its depth of brackets, up to where more close than open."""
    found: list[tuple[int, int]] = []
    depth, quote, place = 0, "", start
    while place < len(text) and depth >= 0:
        character = text[place]
        if quote:
            place += 2 if character == "\\" else 1
            quote = "" if character == quote else quote
            continue
        quote = character if character in "'\"" else ""
        depth += (character in _OPENING) - (character in _CLOSING)
        if not quote:
            found.append((place, depth))
        place += 1
    return found

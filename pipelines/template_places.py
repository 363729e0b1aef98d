"""Where each part of a rendered text comes from: the line and column of the template.

Marks are laid into the output, one before each piece, and taken out again when all is rendered.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

_EXPRESSION, _DATA = "variable_begin", "data"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of a template: plain text, or one expression."""

    line: int
    column: int
    is_data: bool


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a piece begins in the rendered text."""

    offset: int
    piece: _Piece


class PlacedText(str):
    """A rendered text that knows where its parts come from."""

    __slots__ = ("_marks",)

    _marks: Sequence[_Mark]

    @classmethod
    def of(cls, text: str, marks: Sequence[_Mark]) -> PlacedText:
        placed = cls(text)
        placed._marks = marks
        return placed

    def place(self, offset: int) -> tuple[int, int]:
        """Return the template's line and column, from 1, of a place in the rendered text.

        What an expression gave is where the expression begins.
        """
        index = bisect_right([mark.offset for mark in self._marks], offset) - 1
        if index < 0:
            return 1, 1
        mark = self._marks[index]
        if not mark.piece.is_data:
            return mark.piece.line, mark.piece.column
        before = self[mark.offset : offset]
        lines = before.count("\n")
        if lines:
            return mark.piece.line + lines, len(before) - before.rindex("\n")
        return mark.piece.line, mark.piece.column + len(before)


class Places:
    """Marks for one template. They hold a secret, so that no value can be one."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(8)
        self._pieces: list[_Piece] = []
        self._pattern = re.compile(f"\0{self._secret}:(\\d+)\0")

    def marked(self, environment: Environment, text: str) -> nodes.Template:
        """Parse a template and lay a mark before each piece of its output."""
        tree = environment.parse(text)
        found = {True: _places(environment, text, _DATA), False: _places(environment, text, _EXPRESSION)}
        return _Marker(self, found).visit(tree)  # type: ignore[no-any-return]

    def mark(self, piece: _Piece) -> str:
        self._pieces.append(piece)
        return f"\0{self._secret}:{len(self._pieces) - 1}\0"

    def read(self, rendered: str) -> PlacedText:
        """Take the marks out of what was rendered."""
        marks: list[_Mark] = []
        parts: list[str] = []
        size = at = 0
        for found in self._pattern.finditer(rendered):
            parts.append(rendered[at : found.start()])
            size += len(parts[-1])
            marks.append(_Mark(size, self._pieces[int(found[1])]))
            at = found.end()
        return PlacedText.of("".join([*parts, rendered[at:]]), marks)


def outline(environment: Environment, text: str, stand_in: str) -> PlacedText | None:
    """Return the text with `stand_in` for its expressions; None where statements decide what is in it.

    A table, `{{ df_1 }}`, has its name. Raises what Jinja raises for a text that is no template.
    """
    places = Places()
    tree = places.marked(environment, text)
    parts: list[str] = []
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            return None
        parts += [_outlined(part, stand_in) for part in node.nodes]
    return places.read("".join(parts))


def _outlined(part: nodes.Expr, stand_in: str) -> str:
    if isinstance(part, nodes.TemplateData):
        return part.data
    is_table = isinstance(part, nodes.Name) and part.name.startswith("df_")
    return part.name if is_table else stand_in  # type: ignore[attr-defined]


class _Marker(NodeTransformer):
    def __init__(self, places: Places, found: dict[bool, Iterator[tuple[int, int]]]) -> None:
        self._places = places
        self._found = found

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802 - the visitor's naming
        pieces: list[nodes.Expr] = []
        for part in node.nodes:
            is_data = isinstance(part, nodes.TemplateData)
            line, column = next(self._found[is_data], (part.lineno, 1))
            mark = self._places.mark(_Piece(line, column, is_data))
            pieces += [nodes.TemplateData(mark, lineno=part.lineno), part]
        node.nodes = pieces
        return node


def _places(environment: Environment, text: str, kind: str) -> Iterator[tuple[int, int]]:
    """Yield line and column of each token of a kind, in the order of the template."""
    column = 1
    for line, token, value in environment.lex(text):
        if token == kind and value:
            yield line, column
        column = len(value) - value.rfind("\n") if "\n" in value else column + len(value)

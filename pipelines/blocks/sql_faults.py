"""Where in the file of a SQL block a fault is that a database found in what was sent to it."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.io.errors import ConnectorError
from pipelines.template_places import PlacedText


def located(error: ConnectorError, text: PlacedText, statements: Iterable[str], path: str) -> str:
    """Return the file, with line and column of the fault as far as the error tells.

    `statements` are the parts of the text; what was sent is one of them, often with more around it, such
    as CREATE TABLE ... AS.
    """
    if error.statement is None or error.offset is None:
        return path
    for part in statements:
        begin = error.statement.find(part)
        if 0 <= begin <= error.offset <= begin + len(part):
            line, column = text.place(text.index(part) + error.offset - begin)
            return f"{path}, line {line}, column {column}"
    return path

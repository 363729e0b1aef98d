"""Finds writes to a part of a frame, which pandas 3 does not carry to the frame."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from pipelines.parse_fields import words

# Methods of pandas that change their object in place, and so change a copy when the object is `df['a']`.
_IN_PLACE_METHODS = words(
    """
    fillna replace drop dropna drop_duplicates rename clip where mask ffill bfill interpolate
    sort_values sort_index reset_index set_index rename_axis update
    """
)
_KEEPING_ROWS = words("fillna replace clip where mask ffill bfill interpolate")


def chained_assignments(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, sentence) for writes to a part of a frame, which pandas 3 does not carry to the frame."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if is_chained(target):
                    yield (
                        node.lineno,
                        f"`{ast.unparse(target)} = ...` writes to a copy if this is a DataFrame, and is "
                        f"lost in pandas 3; write `{_loc_form(target)} = ...`",
                    )
        elif isinstance(node, ast.Call) and _is_in_place_on_part(node):
            assert isinstance(node.func, ast.Attribute)
            part = ast.unparse(node.func.value)
            yield (
                node.lineno,
                f"`{part}.{node.func.attr}(..., inplace=True)` changes a copy"
                f"{_condition(node.func.value)}, and is lost in pandas 3; "
                f"write `{part} = {part}.{node.func.attr}(...)`",
            )


def _is_column(node: ast.expr) -> bool:
    """Tell whether `node` looks like `df['a']` or `df[['a', 'b']]`."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return False
    key = node.slice
    return isinstance(key, ast.List) or (isinstance(key, ast.Constant) and isinstance(key.value, str))


def _may_be_column(node: ast.expr) -> bool:
    """Tell whether `node` looks like `df[column]` or `df.age`, which may be a frame in something, too."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and isinstance(node.slice, ast.Name)
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id not in ("self", "cls")
    )


def _condition(part: ast.expr) -> str:
    return "" if _is_column(part) else " if that is a column"


def is_chained(target: ast.expr) -> bool:
    """Tell whether `target` looks like `df['a'][mask]` or `df['a'].loc[mask]`; `x['a']['b']` is a dict's."""
    if not isinstance(target, ast.Subscript):
        return False
    part = target.value
    if isinstance(part, ast.Attribute) and part.attr in ("loc", "iloc", "at", "iat"):
        return _is_column(part.value)
    is_plain_key = isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str)
    return _is_column(part) and not is_plain_key


def _is_in_place_on_part(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _IN_PLACE_METHODS
        and (_is_column(function.value) or _may_be_column(function.value))
        and any(
            keyword.arg == "inplace"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is True
            for keyword in call.keywords
        )
    )


def _loc_form(target: ast.expr) -> str:
    assert isinstance(target, ast.Subscript)
    part = target.value.value if isinstance(target.value, ast.Attribute) else target.value
    assert isinstance(part, ast.Subscript)
    return f"{ast.unparse(part.value)}.loc[{ast.unparse(target.slice)}, {ast.unparse(part.slice)}]"


def in_place_part(node: ast.expr) -> ast.expr | None:
    """Return `df['a']` of the call `df['a'].fillna(0, inplace=True)`; None of anything else.

    Only of calls that keep the rows: what `df['a'].dropna(inplace=True)` means for `df` is anybody's guess.
    """
    if not isinstance(node, ast.Call) or not _is_in_place_on_part(node):
        return None
    assert isinstance(node.func, ast.Attribute)
    return node.func.value if node.func.attr in _KEEPING_ROWS else None

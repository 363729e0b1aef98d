"""Lets code that was written for pandas 1 and 2 change a column of a frame in place.

Since pandas 3 `df["a"].fillna(0, inplace=True)` and `df["a"][rows] = 1` change a copy that is lost. Projects
of Mage rely on what these did before, so their code is compiled to do that.
"""

from __future__ import annotations

import ast
from typing import Any

from pipelines.chained import in_place_part, is_chained
from pipelines.mage.additions import with_import

_ASSIGN = "__millrace_assign_part__"


def as_older_pandas(tree: ast.Module) -> ast.Module:
    """Return the tree with such statements written as assignments to the frame."""
    rewriter = _Rewriter()
    changed: ast.Module = rewriter.visit(tree)
    return with_import(changed, __name__, "assign_part", _ASSIGN) if rewriter.needs_helper else changed


class _Rewriter(ast.NodeTransformer):
    def __init__(self) -> None:
        self.needs_helper = False

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Make `df["a"].fillna(0, inplace=True)` into `df["a"] = df["a"].fillna(0)`."""
        self.generic_visit(node)
        part = in_place_part(node.value)
        if part is None:
            return node
        assert isinstance(node.value, ast.Call)
        call = node.value
        call.keywords = [keyword for keyword in call.keywords if keyword.arg != "inplace"]
        return ast.copy_location(ast.Assign([_as_target(part)], call), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Make `df["a"][rows] = 1` into a call, which knows whether `df` is a frame."""
        self.generic_visit(node)
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Subscript) or not is_chained(target):
            return node
        return self._assigned(node, target, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        target = node.target
        if not isinstance(target, ast.Subscript) or not is_chained(target):
            return node
        before = ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), node)
        return self._assigned(node, target, ast.BinOp(before, node.op, node.value))

    def _assigned(self, node: ast.stmt, target: ast.Subscript, value: ast.expr) -> ast.AST:
        owner = target.value
        part, way = (owner.value, owner.attr) if isinstance(owner, ast.Attribute) else (owner, "")
        assert isinstance(part, ast.Subscript)
        self.needs_helper = True
        key, rows = _as_value(part.slice), _as_value(target.slice)
        call = ast.Call(ast.Name(_ASSIGN, ast.Load()), [part.value, key, ast.Constant(way), rows, value], [])
        return ast.copy_location(ast.Expr(call), node)


def assign_part(owner: Any, key: Any, way: str, rows: Any, value: Any) -> None:
    """Do `owner[key].way[rows] = value` so that it is not lost where `owner` is a frame."""
    part = owner[key]
    is_frame = hasattr(owner, "columns") and hasattr(part, "copy")
    if is_frame:
        part = part.copy()
    place = getattr(part, way) if way else part
    place[rows] = value
    if is_frame:
        owner[key] = part


def _as_value(node: ast.expr) -> ast.expr:
    """Return what stands in brackets as a value: `1:3` is a slice."""
    if isinstance(node, ast.Slice):
        bounds = [bound or ast.Constant(None) for bound in (node.lower, node.upper, node.step)]
        return ast.Call(ast.Name("slice", ast.Load()), bounds, [])
    if isinstance(node, ast.Tuple):
        return ast.Tuple([_as_value(item) for item in node.elts], ast.Load())
    return node


def _as_target(part: ast.expr) -> ast.expr:
    if isinstance(part, ast.Subscript):
        return ast.copy_location(ast.Subscript(part.value, part.slice, ast.Store()), part)
    assert isinstance(part, ast.Attribute)
    return ast.copy_location(ast.Attribute(part.value, part.attr, ast.Store()), part)

"""Lets code that was written for pandas 1 and 2 change a column of a frame in place.

Since pandas 3 `df["a"].fillna(0, inplace=True)` and `df["a"][rows] = 1` change a copy that is lost. Projects
of Mage rely on what these did before, so their code is compiled to do that.
"""

from __future__ import annotations

import ast

from pipelines.chained import in_place_part, is_chained
from pipelines.mage.additions import Helpers


class OlderChanges(ast.NodeTransformer):
    """Writes such statements as calls that change the frame."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Make `df["a"].fillna(0, inplace=True)` into a call, which knows whether `df` is a frame."""
        self.generic_visit(node)
        part = in_place_part(node.value)
        if part is None:
            return node
        assert isinstance(node.value, ast.Call)
        assert isinstance(node.value.func, ast.Attribute)
        call = node.value
        if isinstance(part, ast.Subscript):
            function, owner, key = "change_item", part.value, _as_value(part.slice)
        else:
            assert isinstance(part, ast.Attribute)
            function, owner, key = "change_attribute", part.value, ast.Constant(part.attr)
        call.args = [owner, key, ast.Constant(node.value.func.attr), *call.args]
        call.keywords = [keyword for keyword in call.keywords if keyword.arg != "inplace"]
        call.func = self._helpers.function(function)
        return node

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
        key, rows = _as_value(part.slice), _as_value(target.slice)
        arguments = [part.value, key, ast.Constant(way), rows, value]
        return ast.copy_location(
            ast.Expr(ast.Call(self._helpers.function("assign_part"), arguments, [])), node
        )


def _as_value(node: ast.expr) -> ast.expr:
    """Return what stands in brackets as a value: `1:3` is a slice."""
    if isinstance(node, ast.Slice):
        bounds = [bound or ast.Constant(None) for bound in (node.lower, node.upper, node.step)]
        return ast.Call(ast.Name("slice", ast.Load()), bounds, [])
    if isinstance(node, ast.Tuple):
        return ast.Tuple([_as_value(item) for item in node.elts], ast.Load())
    return node

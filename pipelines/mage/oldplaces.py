"""Lets code that was written for pandas 1 and 2 ask a Series for what stands in a place.

Since pandas 3 the number in `df.iloc[0][0]` and `df.dtypes[0]` is a label, and mostly there is no such label.
Before, it was a place wherever the labels were no numbers.
"""

from __future__ import annotations

import ast

from pipelines.mage.additions import Helpers


class OlderPlaces(ast.NodeTransformer):
    """Writes every `x[0]` that is read as a call, which looks what `x` is."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or not _is_number(node.slice) or _says_place(node.value):
            return node
        call = self._helpers.call("item", node.value)
        call.args.append(node.slice)
        return ast.copy_location(call, node)


def _is_number(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) | ast.Constant(value=value):
            return type(value) is int
    return False


def _says_place(node: ast.expr) -> bool:
    """Tell whether `node` looks like `df.iloc` or `df.loc`, which say themselves what the number is."""
    return isinstance(node, ast.Attribute) and node.attr in ("iloc", "loc", "iat", "at")

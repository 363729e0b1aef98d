"""Lets the code of Mage's blocks read files by paths that begin in the folder around the project.

Mage works in that folder, blocks here in the project's own. So what is read by a relative path, and is not
in the project, is looked for beside it.
"""

from __future__ import annotations

import ast

from pipelines.mage.additions import Helpers

_READER = "read_"  # of pandas, polars and pyarrow


def with_files_beside(tree: ast.Module) -> ast.Module:
    """Return the tree with the first argument of every `open(...)` and `read_...(...)` looked for."""
    helpers = Helpers("pipelines.mage", "repository")
    return helpers.imported_into(_Finder(helpers).visit(tree))


class _Finder(ast.NodeTransformer):
    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if _reads(node.func) and node.args and not isinstance(node.args[0], ast.Starred):
            node.args[0] = self._helpers.call("found", node.args[0])
        return node


def _reads(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name == "open" or name.startswith(_READER)
        case ast.Attribute(attr=name):
            return name.startswith(_READER)
    return False

"""Lets the code of Mage's blocks read files by paths that begin in the folder around the project.

Mage works in that folder, blocks here in the project's own. So what is read by a relative path, and is not
in the project, is looked for beside it.
"""

from __future__ import annotations

import ast

from pipelines.mage.additions import with_import

_FOUND = "__millrace_found__"
_READER = "read_"  # of pandas, polars and pyarrow


def with_files_beside(tree: ast.Module) -> ast.Module:
    """Return the tree with the first argument of every `open(...)` and `read_...(...)` looked for."""
    finder = _Finder()
    changed = finder.visit(tree)
    assert isinstance(changed, ast.Module)
    return with_import(changed, "pipelines.mage.repository", "found", _FOUND) if finder.is_used else changed


class _Finder(ast.NodeTransformer):
    def __init__(self) -> None:
        self.is_used = False

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if _reads(node.func) and node.args and not isinstance(node.args[0], ast.Starred):
            self.is_used = True
            first = node.args[0]
            node.args[0] = ast.copy_location(ast.Call(ast.Name(_FOUND, ast.Load()), [first], []), first)
        return node


def _reads(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name == "open" or name.startswith(_READER)
        case ast.Attribute(attr=name):
            return name.startswith(_READER)
    return False

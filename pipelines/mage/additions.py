"""Adds imports of our own to the code of a project, when it is compiled."""

from __future__ import annotations

import ast


def with_import(tree: ast.Module, module: str, name: str, alias: str) -> ast.Module:
    """Return the tree with `from module import name as alias` at its beginning."""
    statement = ast.ImportFrom(module, [ast.alias(name, alias)], 0)
    place = after_future_imports(tree)
    return ast.Module([*tree.body[:place], statement, *tree.body[place:]], tree.type_ignores)


def after_future_imports(tree: ast.Module) -> int:
    """Return where a statement may stand first: behind the docstring and the imports from `__future__`."""
    place = 0
    for index, statement in enumerate(tree.body):
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if not (is_text or is_future):
            break
        place = index + 1
    return place

"""Adds what is ours to the code of a project, when it is compiled: calls of helpers, and their import."""

from __future__ import annotations

import ast


class Helpers:
    """The functions of one module of ours, for rewritten code; imported if any of them is called."""

    def __init__(self, package: str, module: str) -> None:
        self._package = package
        self._module = module
        self._alias = f"__millrace_{module}__"
        self._is_called = False

    def function(self, name: str) -> ast.expr:
        """Return one of them, to be called."""
        self._is_called = True
        return ast.Attribute(ast.Name(self._alias, ast.Load()), name, ast.Load())

    def call(self, name: str, argument: ast.expr) -> ast.Call:
        """Return a call of one of them with what stands there now."""
        return ast.copy_location(ast.Call(self.function(name), [argument], []), argument)

    def imported_into(self, tree: ast.Module) -> ast.Module:
        return with_import(tree, self._package, self._module, self._alias) if self._is_called else tree


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

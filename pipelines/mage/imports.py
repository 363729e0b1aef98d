"""Finds in the code of a block what it asks of Mage and does not get here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.mage.names import ROOT_NAME, has_name, is_module, sentence

NO_SPARK = (
    "there is no `spark` here; make the session in the block: SparkSession.builder.getOrCreate(), with "
    "pyspark installed"
)


@dataclass(frozen=True)
class MissingName:
    """One import that fails: in which line, and what to do."""

    line: int
    sentence: str


def missing_names(tree: ast.Module) -> Iterator[MissingName]:
    """Yield the names of `mage_ai` that are imported and not there, the guarded decorators aside."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _asks_for_globals(node.test):
            continue
        for line, text in _missing_in(node):
            yield MissingName(line, text)
        waiting += ast.iter_child_nodes(node)


def _missing_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.ImportFrom) and node.module and not node.level and _is_mages(node.module):
        if not is_module(node.module):
            yield node.lineno, sentence(node.module)
            return
        for alias in node.names:
            if alias.name != "*" and not has_name(node.module, alias.name):
                yield node.lineno, sentence(node.module, alias.name)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if _is_mages(alias.name) and not is_module(alias.name):
                yield node.lineno, sentence(alias.name)


def _is_mages(module: str) -> bool:
    return module.partition(".")[0] == ROOT_NAME


def _asks_for_globals(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "globals" for node in ast.walk(test))


def uses_of_spark(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that take `spark` out of the keywords: `kwargs["spark"]`, `kwargs.get("spark")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            owner, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            owner, key = node.func.value, node.args[0]
        else:
            continue
        if _is_keywords(owner) and _is_spark(key):
            yield node.lineno


def _is_keywords(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("kwargs", "kwarg", "kw", "global_vars")


def _is_spark(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "spark"

"""Checks the code of a block without running it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from pipelines.chained import chained_assignments
from pipelines.mage.imports import NO_SPARK, missing_names, uses_of_spark
from pipelines.mage.sources import is_of_mage
from pipelines.model import CALLBACK_ENDS, Block
from pipelines.parse_fields import Findings
from pipelines.parse_integration import check_integration
from pipelines.sql_templates import check_sql
from pipelines.templating import TemplateError

_MAGIC = re.compile(r"^\s*[%!]\s*\S")


def lint_block(block: Block, text: str, findings: Findings) -> None:
    """Report what is wrong with the code of `block` to `findings`, which are those of its file."""
    if "\x00" in text:
        findings.error(1, f"block '{block.name}': the file holds the character NUL; it is not a text")
    elif block.kind == "data_integration" and block.language == "yaml":
        check_integration(block.name, text, findings)
    elif block.kind == "sql":
        _lint_sql(block, text, findings)
    elif block.kind in ("python", "data_integration"):
        _lint_python(block, text, findings)


def _lint_sql(block: Block, text: str, findings: Findings) -> None:
    try:
        for line, message in check_sql(text):
            findings.warning(line, f"block '{block.name}': {message}")
    except TemplateError as error:
        findings.error(error.line, f"block '{block.name}': {error.message}")


def _lint_python(block: Block, text: str, findings: Findings) -> None:
    try:
        tree = _parsed(text)
    except SyntaxError as error:
        findings.error(error.lineno or 1, _syntax_sentence(block, text, error))
        return
    except (RecursionError, MemoryError, ValueError) as error:
        findings.error(1, f"block '{block.name}': the code cannot be parsed: {error}")
        return
    decorators = block.type.decorators
    if not any(name in decorators for name, _ in _decorations(tree)):
        findings.error(
            1,
            f"block '{block.name}': no function is decorated with @{decorators[0]}; "
            f"put it above the one to run",
        )
    for line, status in _unknown_ends(tree):
        findings.warning(
            line,
            f"block '{block.name}': no block ends as {status!r}, so this is never called; "
            f"write @callback('success') or @callback('failure')",
        )
    for missing in missing_names(tree):
        # No error: it ends this block at most, and the other blocks of the pipeline run.
        findings.warning(missing.line, f"block '{block.name}': {missing.sentence}")
    for line in uses_of_spark(tree):
        findings.warning(line, f"block '{block.name}': {NO_SPARK}")
    if not is_of_mage(text):  # which is compiled to do what it did with older pandas
        for line, message in chained_assignments(tree):
            findings.warning(line, f"block '{block.name}': {message}")


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a user's code is no warning of ours
        return ast.parse(text)


def _syntax_sentence(block: Block, text: str, error: SyntaxError) -> str:
    lines = text.splitlines()
    line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
    if _MAGIC.match(line):
        command = line.strip()[:30]
        return f"block '{block.name}': notebook commands such as '{command}' are no Python; remove the line"
    return f"block '{block.name}': syntax error: {error.msg}"


def _unknown_ends(tree: ast.Module) -> Iterator[tuple[int, Any]]:
    """Yield (line, argument) of each @callback for an end that no block comes to."""
    for name, decorator in _decorations(tree):
        if name == "callback" and isinstance(decorator, ast.Call):
            for argument in decorator.args:
                if isinstance(argument, ast.Constant) and argument.value not in CALLBACK_ENDS:
                    yield decorator.lineno, argument.value


def _decorations(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield each decorator of a function: by the name that it has with us, and as it is written."""
    names = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(called, ast.Name):
                    yield names.get(called.id, called.id), decorator
                elif isinstance(called, ast.Attribute):
                    yield called.attr, decorator

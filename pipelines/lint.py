"""Checks the code of a block without running it."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from pipelines.model import Block
from pipelines.parse_fields import Findings, words
from pipelines.templating import TemplateError, check_sql

# Mage's way to pick a part of an upstream output: a lambda, which is no Jinja.
_PARSED_OUTPUT = re.compile(r"block_output\(\s*['\"]([^'\"]*)['\"]\s*,\s*parse\s*=")
_MAGIC = re.compile(r"^\s*[%!]\s*\S")
# Methods of pandas that change their object in place, and so change a copy when the object is `df['a']`.
_IN_PLACE_METHODS = words(
    """
    fillna replace drop dropna drop_duplicates rename clip where mask ffill bfill interpolate
    sort_values sort_index reset_index set_index rename_axis update
    """
)


def lint_block(block: Block, text: str, findings: Findings) -> None:
    """Report what is wrong with the code of `block` to `findings`, which are those of its file."""
    if "\x00" in text:
        findings.error(1, f"block '{block.name}': the file holds the character NUL; it is not a text")
    elif block.kind == "sql":
        _lint_sql(block, text, findings)
    elif block.kind == "python":
        _lint_python(block, text, findings)


def _lint_sql(block: Block, text: str, findings: Findings) -> None:
    parsed = _PARSED_OUTPUT.search(text)
    if parsed is not None:
        findings.error(
            text.count("\n", 0, parsed.start()) + 1,
            f"block '{block.name}': block_output() takes no `parse` here; write what it picks in the "
            f"template, as in {{{{ block_output('{parsed[1]}')['key'] }}}}",
        )
        return
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
    decorator = block.type.decorator
    if decorator not in set(_decorators(tree)):
        findings.error(
            1,
            f"block '{block.name}': no function is decorated with @{decorator}; put it above the one to run",
        )
    for line, module in _imports_of_mage(tree):
        findings.warning(
            line,
            f"block '{block.name}': {module} is not there unless Mage is installed beside Millrace; "
            f"write `from pipelines.io import ...` and the like in its place",
        )
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


def _decorators(tree: ast.Module) -> Iterator[str]:
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
                    yield names.get(called.id, called.id)
                elif isinstance(called, ast.Attribute):
                    yield called.attr


def _imports_of_mage(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of the imports that would be executed: guarded ones of decorators are not."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _asks_for_globals(node.test):
            continue
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in (node.module or "",) if _is_mages(name))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _is_mages(alias.name))
        waiting.extend(ast.iter_child_nodes(node))


def _asks_for_globals(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "globals" for node in ast.walk(test))


def _is_mages(module: str) -> bool:
    return module.split(".")[0] == "mage_ai"


def chained_assignments(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, sentence) for writes to a part of a frame, which pandas 3 does not carry to the frame."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if _is_chained(target):
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


def _is_chained(target: ast.expr) -> bool:
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

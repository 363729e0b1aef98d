"""Jinja, held to what configuration needs: expressions in triggers, values in YAML files, whole SQL texts.

Everything runs in one sandbox with strict undefined names and the bounds of `template_limits`. Statements
are limited to `if`, `for` and `set`; expressions have none.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Template, Undefined, nodes

from pipelines.secrets import Secrets
from pipelines.template_limits import MAX_TEXT, STEPS, Steps, TemplateError, bounded, check_whole, joined
from pipelines.template_sandbox import SANDBOX, Sandbox, check_nodes, reason

__all__ = [
    "CompiledTree",
    "Expression",
    "TemplateError",
    "expression",
    "file_functions",
    "generated",
    "guard_source",
    "holds_template",
    "is_template",
    "render_file",
    "render_tree",
    "render_value",
    "template_error",
]

MAX_SOURCE = 10_000  # characters of one expression
MAX_SQL_SOURCE = 1_000_000
MAX_SECONDS = 2.0  # of processor time for one expression

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}
_MARK = re.compile(r"\{\{|\{%|\{#")


def is_template(value: Any) -> bool:
    """Tell whether `value` is a text with something for Jinja in it."""
    return isinstance(value, str) and _MARK.search(value) is not None


def holds_template(value: Any) -> bool:
    """Tell whether any text in a value of dicts, lists and leaves is a template."""
    if isinstance(value, Mapping):
        return any(holds_template(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_template(item) for item in value)
    return is_template(value)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:77] + "..."


# --- expressions -----------------------------------------------------------------------------------

_Evaluate = Callable[[Mapping[str, Any]], Any]


class Expression:
    """A compiled template without statements.

    One that is a single `{{ expression }}` keeps the type of its value; mixed text gives text.
    """

    __slots__ = ("_evaluate", "is_single", "names", "text")

    def __init__(self, text: str, evaluate: _Evaluate, *, is_single: bool, names: frozenset[str]) -> None:
        self.text = text
        self.is_single = is_single
        self.names = names  # the top-level names it needs
        self._evaluate = evaluate

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, **names: Any) -> Any:
        """Return the value. Raises TemplateError with one sentence."""
        return self.evaluate_with(names)

    def evaluate_with(self, names: Mapping[str, Any]) -> Any:
        try:
            return self._evaluate(names)
        except Exception as error:
            raise TemplateError(f"the template '{_short(self.text)}' failed: {reason(error)}") from error


def expression(text: str) -> Expression:
    """Compile a template of expressions only. Raises TemplateError when it cannot be."""
    try:
        return _compile_text(text)
    except Exception as error:
        line = int(getattr(error, "lineno", None) or getattr(error, "line", None) or 1)
        raise TemplateError(f"the template '{_short(text)}' is wrong: {reason(error)}", line) from error


def _compile_text(text: str) -> Expression:
    if len(text) > MAX_SOURCE:
        raise TemplateError(f"it has more than {MAX_SOURCE:,} characters")
    tree = SANDBOX.parse(text)
    check_nodes(tree)
    pieces: list[nodes.Expr] = []
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            raise TemplateError(
                "statements are not allowed here; write {{ an expression }}", statement.lineno
            )
        pieces.extend(statement.nodes)
    names = frozenset(node.name for node in tree.find_all(nodes.Name))
    single = _single(pieces)
    if single is not None:
        return Expression(text, _compile_node(single), is_single=True, names=names)
    parts = [_compile_piece(piece) for piece in pieces]
    return Expression(text, lambda given: joined(part(given) for part in parts), is_single=False, names=names)


def _is_blank(piece: nodes.Node) -> bool:
    return isinstance(piece, nodes.TemplateData) and not piece.data.strip()


def _single(pieces: list[nodes.Expr]) -> nodes.Expr | None:
    told = [piece for piece in pieces if not _is_blank(piece)]
    return told[0] if len(told) == 1 and not isinstance(told[0], nodes.TemplateData) else None


def _compile_piece(piece: nodes.Expr) -> _Evaluate:
    if isinstance(piece, nodes.TemplateData):
        data = piece.data
        return lambda _: data
    return _compile_node(piece)


def _compile_node(node: nodes.Expr) -> _Evaluate:
    path = _plain_path(node)
    if path is not None:
        return lambda names: _follow(names, path)
    compared = _plain_comparison(node)
    if compared is not None:
        return compared
    node.set_environment(SANDBOX)
    body = [nodes.Assign(nodes.Name("result", "store", lineno=1), node, lineno=1)]
    template = SANDBOX.from_string(nodes.Template(body, lineno=1))

    def evaluate(names: Mapping[str, Any]) -> Any:
        context = template.new_context({**names, STEPS: Steps(seconds=MAX_SECONDS)})
        for _ in template.root_render_func(context):
            pass
        value = context.vars["result"]
        if isinstance(value, Undefined):
            str(value)  # strict: raises, and names what is missing
        if isinstance(value, (list, tuple, dict)):
            check_whole(value)  # literals may hold one big value many times
        return bounded(value)

    return evaluate


def _plain_path(node: nodes.Expr) -> tuple[str | int, ...] | None:
    """Return the steps of `event.data['name'][0]`, or None when the expression is more than a path."""
    steps: list[str | int] = []
    current: nodes.Expr = node
    while not isinstance(current, nodes.Name):
        if isinstance(current, nodes.Getattr):
            steps.append(current.attr)
        elif isinstance(current, nodes.Getitem) and isinstance(current.arg, nodes.Const):
            steps.append(current.arg.value)
        else:
            return None
        current = current.node
    return (current.name, *reversed(steps))


def _plain_comparison(node: nodes.Expr) -> _Evaluate | None:
    """Return how to evaluate `event.data.amount > 0`, the usual filter; None for anything else.

    It needs none of the sandbox's bounds: it makes nothing, and looks at one value.
    """
    if not isinstance(node, nodes.Compare) or len(node.ops) != 1:
        return None
    path, operand = _plain_path(node.expr), node.ops[0]
    compare = _COMPARISONS.get(operand.op)
    if path is None or compare is None or not isinstance(operand.expr, nodes.Const):
        return None
    constant = operand.expr.value
    return lambda names: compare(_follow(names, path), constant)


def _follow(names: Mapping[str, Any], path: tuple[str | int, ...]) -> Any:
    value: Any = names
    for index, step in enumerate(path):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
            continue
        if index == 0:
            raise TemplateError(f"'{step}' is not known here (known: {', '.join(sorted(names))})")
        value = SANDBOX.getitem(value, step)
        if isinstance(value, Undefined):
            where = ".".join(str(part) for part in path[:index])
            raise TemplateError(f"{where}: {value._undefined_message}")
    if callable(value):
        raise TemplateError(f"'{path[-1]}' is a function; call it with ()")
    return value


# --- trees of values -------------------------------------------------------------------------------


class CompiledTree:
    """A value of dicts, lists and leaves; the leaves that are templates are compiled once."""

    __slots__ = ("_tree", "names")

    def __init__(self, value: Any) -> None:
        found: set[str] = set()
        self._tree = _compile_tree(value, found)
        self.names = frozenset(found)

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """Return a new value with every template evaluated. Raises TemplateError."""
        return _evaluate_tree(self._tree, names)


def _compile_tree(value: Any, found: set[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _compile_tree(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_compile_tree(item, found) for item in value]
    if is_template(value):
        compiled = expression(value)
        found |= compiled.names
        return compiled
    return value


def _evaluate_tree(tree: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(tree, Expression):
        return tree.evaluate_with(names)
    if isinstance(tree, dict):
        return {key: _evaluate_tree(item, names) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_evaluate_tree(item, names) for item in tree]
    return tree


def render_tree(value: Any, names: Mapping[str, Any]) -> Any:
    """Evaluate every template in a value of dicts, lists and leaves. Raises TemplateError."""
    return CompiledTree(value).evaluate(names)


# --- whole texts -----------------------------------------------------------------------------------


def file_functions(environ: Mapping[str, str], secrets: Secrets) -> dict[str, Any]:
    """Return what templates in configuration files may call: `env_var`, `env.var`, `secret`, ..."""

    def env_var(name: str, *default: Any) -> Any:
        if name in environ:
            return environ[name]
        if default:
            return default[0]
        raise TemplateError(
            f"the environment variable {name} is not set; set it, or give a default: env_var('{name}', '...')"
        )

    return {
        "env_var": env_var,
        "env": {"var": env_var},
        "secret": secrets.get,
        "mage_secret_var": secrets.get,
        **{f"{store}_secret_var": _absent_store(store) for store in ("aws", "azure", "gcp")},
        "json_value": _json_value,
    }


def _absent_store(store: str) -> Callable[..., Any]:
    def secret_var(name: str, *_: Any, **__: Any) -> Any:
        raise TemplateError(
            f"{store}_secret_var('{name}'): the secrets of that cloud are not asked; write secret('{name}') "
            f"and give it as a secret of Millrace, or env_var(...)"
        )

    return secret_var


def _json_value(text: str, key: str) -> Any:
    try:
        return json.loads(text)[key]
    except (ValueError, TypeError, LookupError) as error:
        # The text is a secret more often than not: it stays out of the message.
        raise TemplateError(f"json_value finds no '{key}' in its text ({type(error).__name__})") from None


def render_file(text: str, *, file: str, functions: Mapping[str, Any]) -> str:
    """Render a configuration file as a whole. Raises TemplateError with the line."""
    return _render(SANDBOX, text, functions, file)


def render_value(text: str, *, where: str, functions: Mapping[str, Any]) -> str:
    """Render one value of a configuration file. Raises TemplateError that says `where` it stands."""
    guard_source(text)
    try:
        return _rendered(SANDBOX, text, functions)
    except Exception as error:
        raise TemplateError(f"{where}: {reason(error)}") from error


def guard_source(text: str) -> None:
    """Raise TemplateError for a text that is too long to be looked at."""
    if len(text) > MAX_SQL_SOURCE:
        raise TemplateError(f"the text has more than {MAX_SQL_SOURCE:,} characters")


def _render(sandbox: Sandbox, text: str, names: Mapping[str, Any], what: str) -> str:
    guard_source(text)
    try:
        return _rendered(sandbox, text, names)
    except Exception as error:
        raise template_error(error, what) from error


def _rendered(sandbox: Sandbox, source: str, names: Mapping[str, Any]) -> str:
    return generated(sandbox.from_string(source), names)


def generated(template: Template, names: Mapping[str, Any]) -> str:
    """Return what a compiled template gives with these names, within the bounds of all templates."""
    pieces: list[str] = []
    size = 0
    for piece in template.generate({**names, STEPS: Steps()}):
        size += len(piece)
        if size > MAX_TEXT:
            raise TemplateError(f"the text would have more than {MAX_TEXT:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def template_error(error: Exception, what: str) -> TemplateError:
    """Return what went wrong as a sentence with the line of the template."""
    line = int(
        getattr(error, "lineno", None) or _line_in_template(error) or getattr(error, "line", None) or 1
    )
    return TemplateError(f"{what}, line {line}: {reason(error)}", line)


def _line_in_template(error: Exception) -> int | None:
    """Return the template line of a failure; Jinja rewrites the traceback so that it has one."""
    line = None
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line

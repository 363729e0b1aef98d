"""The sandbox that every template runs in: strict undefined names, few statements, bounded work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from pipelines.secrets import SecretMissing
from pipelines.template_limits import (
    STEPS,
    Steps,
    TemplateError,
    allowed_filters,
    attribute,
    binary,
    bounded,
    charge,
    guarded_test,
    weight,
)
from pipelines.template_sql import sql_filters

MAX_NESTING = 60
MAX_REASON = 400  # characters

_STATEMENTS = (nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Assign)


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    steps: Steps = context[STEPS]
    for item in items:
        steps.take()
        yield item


class _Bounds(NodeTransformer):
    """Puts bounded versions in the place of what Jinja compiles to unbounded Python."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the visitor's naming
        parts = nodes.List([cast(nodes.Expr, self.visit(part)) for part in node.nodes], lineno=node.lineno)
        return nodes.Filter(parts, "join", [], [], None, None, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=False, cache_size=0, keep_trailing_newline=True
        )
        self.globals.clear()
        self.globals["range"] = safe_range
        self.filters = allowed_filters()
        self.filters["_counted"] = _counted
        self.tests = {name: guarded_test(function) for name, function in self.tests.items()}

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        # The data comes before the methods: a payload may well have a key named "items".
        if not isinstance(argument, str) or isinstance(obj, Mapping):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self._attribute(obj, argument)
        return self.undefined(hint=_missing(obj, argument))

    def _attribute(self, obj: Any, name: str) -> Any:
        try:
            return attribute(obj, name)
        except AttributeError:
            return self.undefined(hint=_missing(obj, name), exc=UndefinedError)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        value = binary(operator, left, right, self.binop_table[operator])
        charge(context, weight(value))
        return value

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if STEPS in __context:
            __context[STEPS].take()
        value = bounded(super().call(__context, __obj, *args, **kwargs))
        charge(__context, weight(value))
        return value

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        check_nodes(source)
        return super()._generate(_Bounds().visit(source), name, filename, defer_init)


class SqlSandbox(Sandbox):
    """For SQL, which only worker processes render: any public attribute of a value may be read."""

    def __init__(self) -> None:
        super().__init__()
        self.filters |= sql_filters()

    def _attribute(self, obj: Any, name: str) -> Any:
        try:
            return attribute(obj, name)
        except AttributeError:
            pass
        value = getattr(obj, name, self)
        if value is self or isinstance(obj, str) or not self.is_safe_attribute(obj, name, value):
            return self.undefined(hint=_missing(obj, name))
        return value


def _missing(obj: Any, name: Any) -> str:
    if isinstance(obj, Undefined):
        return f"{name!r} is looked up in something that is not there"
    if isinstance(obj, Mapping):
        known = ", ".join(sorted(str(key) for key in obj)[:8]) or "nothing"
        return f"there is no {name!r} (there is: {known[:200]})"
    if isinstance(name, int) and isinstance(obj, (list, tuple, str)):
        return f"there is no item {name} (there are {len(obj)})"
    return f"a {type(obj).__name__} has no {name!r} that a template may use"


def check_nodes(tree: nodes.Node) -> None:
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise TemplateError(
                f"the template is nested deeper than {MAX_NESTING} levels; simplify it", node.lineno
            )
        if isinstance(node, nodes.Stmt) and not isinstance(node, _STATEMENTS):
            raise TemplateError(
                f"'{type(node).__name__.lower()}' is not allowed in a template; only if, for and set are",
                node.lineno,
            )
        if isinstance(node, nodes.For) and node.recursive:
            raise TemplateError("a recursive loop is not allowed in a template", node.lineno)
        waiting.extend((child, depth + 1) for child in node.iter_child_nodes())


SANDBOX = Sandbox()  # environments are immutable once made; they hold no state between templates
SQL_SANDBOX = SqlSandbox()


def reason(error: BaseException) -> str:
    """Return what went wrong in a sentence that may be stored: an event's data can be in it."""
    sentence = _reason(error)
    return sentence if len(sentence) <= MAX_REASON else sentence[: MAX_REASON - 3] + "..."


def _reason(error: BaseException) -> str:
    if isinstance(error, (TemplateError, SecretMissing)):
        return str(error)
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply; simplify it"
    if isinstance(error, (UndefinedError, TemplateSyntaxError, TemplateRuntimeError, SecurityError)):
        return (error.message or str(error)).rstrip(".")
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

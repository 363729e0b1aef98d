"""The decorators that mark a block file's functions.

They change nothing about a function. While a block file is executed, they tell the collector of that
execution what they were put on; everywhere else (an import in a test, in a notebook) they do nothing at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Collector:
    """What was decorated in one namespace, in the order of the file."""

    namespace: Mapping[str, Any]
    found: list[tuple[str, Callable[..., Any]]] = field(default_factory=list)
    arguments: list[tuple[Any, ...]] = field(default_factory=list)  # what each of them was decorated with
    options: list[Mapping[str, Any]] = field(default_factory=list)  # and by keyword

    def decorated(self) -> list[tuple[str, tuple[Any, ...], Callable[..., Any]]]:
        """Return each decorator's name, what it was called with, and the function it was put on."""
        return [
            (name, arguments, function)
            for (name, function), arguments in zip(self.found, self.arguments, strict=True)
        ]

    def options_of(self, function: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the keywords with which a function was decorated, as in `@transformer(stream=True)`."""
        places = [place for place, (_, marked) in enumerate(self.found) if marked is function]
        return self.options[places[0]] if places else {}

    def of(self, decorator: str) -> list[Callable[..., Any]]:
        """Return the functions that carry the decorator of that name."""
        return [function for name, function in self.found if name == decorator]


_collector: ContextVar[Collector | None] = ContextVar("collector", default=None)


@contextmanager
def collecting(namespace: Mapping[str, Any]) -> Iterator[Collector]:
    """Collect what code executed in `namespace` decorates. Helper modules that it imports do not count."""
    collector = Collector(namespace)
    token = _collector.set(collector)
    try:
        yield collector
    finally:
        _collector.reset(token)


class Decorator:
    """A marker for functions, usable bare (`@test`) and with arguments (`@callback("success")`)."""

    __test__ = False  # `from pipelines import test` must not look like a test to pytest

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __call__(self, function: Function, /) -> Function: ...

    @overload
    def __call__(self, *arguments: Any, **options: Any) -> Callable[[Function], Function]: ...

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if len(arguments) == 1 and callable(arguments[0]) and not options:
            return self._mark(arguments[0], (), {}, sys._getframe(1).f_globals)

        def mark(function: Function) -> Function:
            return self._mark(function, arguments, options, sys._getframe(1).f_globals)

        return mark

    def __repr__(self) -> str:
        return f"<decorator {self.name}>"

    def _mark(
        self,
        function: Function,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        namespace: Mapping[str, Any],
    ) -> Function:
        collector = _collector.get()
        # By namespace, not by the function's own globals: in `@data_loader @retry def f` they are retry's.
        if collector is not None and collector.namespace is namespace:
            collector.found.append((self.name, function))
            collector.arguments.append(arguments)
            collector.options.append(options)
        return function


data_loader = Decorator("data_loader")
transformer = Decorator("transformer")
data_exporter = Decorator("data_exporter")
custom = Decorator("custom")
sensor = Decorator("sensor")
data_integration = Decorator("data_integration")
condition = Decorator("condition")
callback = Decorator("callback")
on_success = Decorator("on_success")  # Mage's older way to say @callback("success")
on_failure = Decorator("on_failure")
test = Decorator("test")

# The names a block file finds as globals, as in Mage.
DECORATORS: Mapping[str, Decorator] = {
    decorator.name: decorator
    for decorator in (
        data_loader,
        transformer,
        data_exporter,
        custom,
        sensor,
        data_integration,
        condition,
        callback,
        on_success,
        on_failure,
        test,
    )
}

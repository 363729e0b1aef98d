"""Executes Python blocks: the pinned source of one file, its decorated function and its tests."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from pipelines.checkpoints import BLOCK_MODULE_PREFIX
from pipelines.context import BlockContext
from pipelines.decorators import DECORATORS, Collector, collecting
from pipelines.errors import BlockCodeError

Outputs = tuple[Any, ...]

# Branches begin together and import the same libraries. Where a library's modules import each other in more
# than one order, two threads at it find a deadlock between import locks, and one of the blocks fails.
_one_at_a_time = threading.RLock()


def run_python(context: BlockContext, inputs: Sequence[Any]) -> Outputs:
    """Execute the block's file, call its function on the inputs and its tests on the outputs.

    Whatever the file or the function raises comes out as it is; a rule that the code breaks, as
    BlockCodeError.
    """
    with _ends_forked_children(), _loaded(context) as collector:
        function = _function_of(context, collector)
        arguments, keywords = _arguments(context, function, inputs)
        del inputs
        result = function(*arguments, **keywords)
        del arguments
        outputs = outputs_of(result)
        _refuse_one_time_outputs(context, function, outputs)
        for test in collector.of("test"):
            _run_test(context, test, outputs)
    return outputs


def outputs_of(result: Any) -> Outputs:
    """Return the outputs of a block as Mage counts them: a tuple or list is several, None is none."""
    if result is None:
        return ()
    if isinstance(result, (tuple, list)) and type(result) in (tuple, list):
        # An empty list is one output: the next block then gets an empty list, and not nothing at all.
        return tuple(result) if result else (result,)
    return (result,)


def input_of(outputs: Outputs) -> Any:
    """Return what a downstream block gets of these outputs: nothing, the only one, or the list of all."""
    if not outputs:
        return None
    return outputs[0] if len(outputs) == 1 else list(outputs)


@contextmanager
def _ends_forked_children() -> Iterator[None]:
    """End a child process that the block forked and did not end: it must not walk the graph as well."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)


@contextmanager
def _loaded(context: BlockContext) -> Iterator[Collector]:
    """Execute the block's file as a module of its own, importable by name for as long as the block runs."""
    file = str(context.root / context.block.path)
    module = types.ModuleType(BLOCK_MODULE_PREFIX + context.block.name)
    module.__file__ = file
    vars(module).update(DECORATORS)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up
    with _one_at_a_time, collecting(vars(module)) as collector:
        exec(_compiled(context.source, file), vars(module))  # noqa: S102 - user code is what this is for
    yield collector


@lru_cache(maxsize=512)
def _compiled(source: str, file: str) -> types.CodeType:
    # Without a time stamp linecache keeps these lines: they are what runs, whatever the file says by now.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return compile(source, file, "exec", dont_inherit=True)


def _function_of(context: BlockContext, collector: Collector) -> Callable[..., Any]:
    decorator = context.block.type.decorator
    functions = collector.of(decorator)
    if functions:
        return functions[0]
    others = ", ".join(sorted({f"@{name}" for name, _ in collector.found if name != "test"}))
    found = f"it has {others} instead" if others else "it has none"
    raise BlockCodeError(
        f"{context.block.path}: block {context.block.name!r} is a {decorator} and needs a function "
        f"decorated with @{decorator}; {found}"
    )


def _arguments(
    context: BlockContext, function: Callable[..., Any], inputs: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = _parameters(function)
    _check_arity(context, function, parameters, len(inputs))
    return tuple(inputs), _keywords(parameters, len(inputs), context.keywords)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _keywords(parameters: list[inspect.Parameter], taken: int, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the keywords the function can take and that no input has taken by position."""
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    filled = {parameter.name for parameter in positional[:taken]}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return {name: value for name, value in offered.items() if name not in filled}
    by_name = {parameter.name for parameter in parameters if parameter.kind in _BY_NAME} - filled
    return {name: value for name, value in offered.items() if name in by_name}


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _check_arity(
    context: BlockContext, function: Callable[..., Any], parameters: list[inspect.Parameter], given: int
) -> None:
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    wanted = [parameter.name for parameter in positional if parameter.default is inspect.Parameter.empty]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    where = f"{context.block.path}:{_line_of(function)}"
    name = getattr(function, "__name__", "the function")
    upstream = ", ".join(context.upstream) or "none"
    if len(wanted) > given:
        missing = ", ".join(repr(parameter) for parameter in wanted[given:])
        raise BlockCodeError(
            f"{where}: {name}() takes {len(wanted)} inputs, but block {context.block.name!r} has {given} "
            f"upstream blocks ({upstream}), so nothing is there for {missing}; add the missing block to its "
            f"upstream_blocks in {context.pipeline.file}:{context.block.line}, or take the parameter away"
        )
    if given > len(positional) and not takes_any:
        unwanted = ", ".join(context.upstream[len(positional) :])
        raise BlockCodeError(
            f"{where}: {name}() takes {len(positional)} inputs, but block {context.block.name!r} has {given} "
            f"upstream blocks ({upstream}), so nothing takes the output of {unwanted}; add a parameter "
            f"or *args"
        )


def _refuse_one_time_outputs(
    context: BlockContext, function: Callable[..., Any], outputs: Sequence[Any]
) -> None:
    """Raise when an output gives its values only once: each consumer, and each retry, would get a part."""
    for output in outputs:
        if isinstance(output, Iterator):
            remedy = "return a list or a DataFrame of its values"
        elif inspect.isawaitable(output):
            remedy = "await it in the block, for instance with asyncio.run()"
        else:
            continue
        raise BlockCodeError(
            f"{context.block.path}:{_line_of(function)}: block {context.block.name!r} returned a "
            f"{type(output).__name__}, which gives its values only once; {remedy}"
        )


def _line_of(function: Callable[..., Any]) -> int:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code is not None else 1


def _run_test(context: BlockContext, test: Callable[..., Any], outputs: Outputs) -> None:
    """Call a test on the outputs. A test of a block that returned nothing gets None, and can say so."""
    arguments = outputs or (None,)
    parameters = _parameters(test)
    if not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        arguments = arguments[: sum(p.kind in _POSITIONAL for p in parameters)]
    test(*arguments, **_keywords(parameters, len(arguments), context.keywords))

"""Executes Python blocks: the pinned source of one file, its decorated function and its tests."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pipelines.blocks.calling import POSITIONAL, chosen_keywords, parameters_of
from pipelines.blocks.streaming import called_per_batch, spooled, stream_form
from pipelines.checkpoints import BLOCK_MODULE_PREFIX
from pipelines.context import BlockContext
from pipelines.decorators import Collector, collecting
from pipelines.errors import BlockCodeError
from pipelines.handover import own_copy
from pipelines.mage.decorators import INJECTED
from pipelines.mage.importing import current_places
from pipelines.mage.sources import compiled

Outputs = tuple[Any, ...]

# Branches begin together and import the same libraries. Where a library's modules import each other in more
# than one order, two threads at it find a deadlock between import locks, and one of the blocks fails.
_one_at_a_time = threading.RLock()


def run_python(context: BlockContext, inputs: Sequence[Any]) -> Outputs:
    """Execute the block's file, call its function on the inputs and its tests on the outputs.

    Whatever the file or the function raises comes out as it is; a rule that the code breaks, as
    BlockCodeError.
    """
    with _ends_forked_children(), loaded(context, inputs) as collector:
        function = _function_of(context, collector)
        where = f"{context.block.path}:{_line_of(function)}"
        form = stream_form(context, collector.options_of(function), where)
        arguments, keywords = _arguments(context, function, inputs, {"batch_number": 1} if form else {})
        del inputs
        if form is None:
            result = function(*arguments, **keywords)
        else:
            result = called_per_batch(context, function, form, arguments, keywords, where)
        del arguments
        outputs = spooled(context, outputs_of(result), where)
        del result
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
def loaded(context: BlockContext, inputs: Sequence[Any]) -> Iterator[Collector]:
    """Execute the block's file as a module of its own, importable by name for as long as the block runs."""
    file = str(context.root / context.block.path)
    module = types.ModuleType(BLOCK_MODULE_PREFIX + context.block.name)
    module.__file__ = file
    code = compiled(context.source, file, current_places())
    vars(module).update(_inputs_by_name(context, inputs, _names_in(code)))
    vars(module).update(INJECTED)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up
    with _one_at_a_time, collecting(vars(module)) as collector:
        exec(code, vars(module))  # noqa: S102 - user code is what this is for
    yield collector


def _inputs_by_name(context: BlockContext, inputs: Sequence[Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return the inputs that the code speaks of as globals, as in Mage: `df_1`, and by their block's name.

    Copies, because the function may change its own; and only what is named, because they cost memory.
    """
    found = {}
    for number, (block, value) in enumerate(zip(context.upstream, inputs, strict=False), start=1):
        for name in (f"df_{number}", block):
            if name in wanted:
                found[name] = own_copy(value)
    return found


def _names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that a file's code looks up beyond its functions' own."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*map(_names_in, inner))


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
    context: BlockContext, function: Callable[..., Any], inputs: Sequence[Any], more: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameters = parameters_of(function)
    _check_arity(context, function, [one for one in parameters if one.name not in more], len(inputs))
    return tuple(inputs), chosen_keywords(parameters, len(inputs), {**context.keywords, **more})


def _check_arity(
    context: BlockContext, function: Callable[..., Any], parameters: list[inspect.Parameter], given: int
) -> None:
    positional = [parameter for parameter in parameters if parameter.kind in POSITIONAL]
    missing = [
        parameter.name
        for parameter in positional[given:]  # which a variable of that name may fill as well
        if parameter.default is inspect.Parameter.empty and parameter.name not in context.keywords
    ]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    where = f"{context.block.path}:{_line_of(function)}"
    name = getattr(function, "__name__", "the function")
    upstream = ", ".join(context.upstream) or "none"
    if missing:
        lacking = ", ".join(map(repr, missing))
        raise BlockCodeError(
            f"{where}: {name}() takes {given + len(missing)} inputs, but block {context.block.name!r} has "
            f"{given} upstream blocks ({upstream}), so nothing is there for {lacking}; add the missing block "
            f"to its upstream_blocks in {context.pipeline.file}:{context.block.line}, or take the parameter "
            f"away"
        )
    if given > len(positional) and not takes_any:
        unwanted = ", ".join(context.upstream[len(positional) :])
        raise BlockCodeError(
            f"{where}: {name}() takes {len(positional)} inputs, but block {context.block.name!r} has {given} "
            f"upstream blocks ({upstream}), so nothing takes the output of {unwanted}; add a parameter "
            f"or *args"
        )


def _line_of(function: Callable[..., Any]) -> int:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code is not None else 1


def _run_test(context: BlockContext, test: Callable[..., Any], outputs: Outputs) -> None:
    """Call a test on the outputs. A test of a block that returned nothing gets None, and can say so."""
    arguments = outputs or (None,)
    parameters = parameters_of(test)
    if not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        arguments = arguments[: sum(p.kind in POSITIONAL for p in parameters)]
    test(*arguments, **chosen_keywords(parameters, len(arguments), context.keywords))

"""What the bodies of a webhook must look like: JSON Schema, compiled once, held against each of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Self

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from pipelines.errors import MillraceError

_LATEST = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_MAX_STEPS = 200_000  # a keyword held against a value is one; a second or two at most
_CHARACTERS_A_STEP = 1000  # of what is quoted
_MAX_MISFITS = 3  # told of one body
_MAX_CHARACTERS = 300  # of each


class BodySchemaError(MillraceError):
    """A `schema` that cannot be used. One sentence."""


class _TooMuchWork(Exception):
    """A body leads a schema into more steps than any honest one."""


@dataclass
class _Steps:
    """Counts what one body costs."""

    left: int

    def take(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooMuchWork("it takes too many steps")


_STEPS: ContextVar[_Steps] = ContextVar("steps")  # of the body that this thread checks

Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


@dataclass(frozen=True, slots=True)
class BodySchema:
    """A schema that leads nowhere outside of itself: checking a body fetches nothing."""

    validator: Any = field(repr=False)  # jsonschema has no types
    max_steps: int = _MAX_STEPS

    @classmethod
    def compile(cls, schema: Mapping[str, Any]) -> Self:
        """Compile. Raises BodySchemaError."""
        dialect = schema.get("$schema", _LATEST)
        kind = validator_for({"$schema": dialect}, default=None) if isinstance(dialect, str) else None
        if kind is None:
            raise BodySchemaError(f"`schema`: the dialect {str(dialect)[:100]!r} is unknown")
        try:
            kind.check_schema(schema)
            lost = next(_lost_references(schema, dialect), None)
        except SchemaError as error:
            raise BodySchemaError(f"`schema` is no JSON Schema: {_sentence(error)}") from None
        except RecursionError:
            raise BodySchemaError("`schema` is nested too deep") from None
        if lost is not None:
            raise BodySchemaError(
                f"`schema` refers to {lost[:200]!r}, which is not in it; other documents are never fetched, "
                "so put the definition under $defs"
            )
        return cls(_bounded(kind)(schema, registry=Registry()))

    def misfit(self, data: Any) -> str | None:
        """Return where and why `data` does not fit, None when it does."""
        started = _STEPS.set(_Steps(self.max_steps))
        try:
            found = list(islice(self.validator.iter_errors(data), _MAX_MISFITS))
        except Exception as error:  # whatever a strange body makes the library raise: it is no acceptance
            why = "it leads too deep" if isinstance(error, RecursionError) else str(error)[:_MAX_CHARACTERS]
            return f"the body cannot be held against the trigger's `schema`: {why}"
        finally:
            _STEPS.reset(started)
        if not found:
            return None
        return f"the body does not fit the trigger's `schema`: {'; '.join(map(_sentence, found))}"


def _bounded(kind: Any) -> Any:
    """Return the validator with every keyword counted: branches that refer back cost twice at each level."""
    checks = {**kind.VALIDATORS, "uniqueItems": _unique_items}
    return extend(kind, {name: partial(_counted, check) for name, check in checks.items()})


def _counted(check: Check, validator: Any, wanted: Any, data: Any, schema: Any) -> Iterator[ValidationError]:
    steps = _STEPS.get()
    steps.take()
    for error in check(validator, wanted, data, schema) or ():
        # Each misfit quotes the value whole, and branches keep theirs: a megabyte, a thousand times.
        steps.take(len(error.message) // _CHARACTERS_A_STEP)
        error.message = error.message[:_MAX_CHARACTERS]
        error.args = ()  # has the message, too
        yield error


def _unique_items(validator: Any, wanted: Any, data: Any, schema: Any) -> Iterator[ValidationError]:
    # The library compares each item with each: four thousand objects take it a quarter of a minute.
    if wanted and isinstance(data, list) and len({_identity(item) for item in data}) < len(data):
        yield ValidationError("it has items that are the same")


def _identity(value: Any) -> Hashable:
    """Return what two values share exactly when JSON Schema calls them equal: 1 is 1.0, and not true."""
    match value:
        case dict():
            return "object", frozenset((name, _identity(item)) for name, item in value.items())
        case list():
            return "array", tuple(_identity(item) for item in value)
        case bool():
            return "boolean", value
    return "value", value


def _sentence(error: SchemaError | ValidationError) -> str:
    return f"{error.json_path[:_MAX_CHARACTERS]}: {error.message[:_MAX_CHARACTERS]}"


def _lost_references(schema: Mapping[str, Any], dialect: str) -> Iterator[str]:
    """Yield the references that lead nowhere within the schema."""
    root = Resource.from_contents(schema, default_specification=specification_with(dialect))
    pending = [(root, Registry[Any]().resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        contents = resource.contents if isinstance(resource.contents, Mapping) else {}
        for keyword in _REFERENCES:
            reference = contents.get(keyword)
            if isinstance(reference, str) and not _is_found(resolver, reference):
                yield reference
        pending.extend((inner, resolver.in_subresource(inner)) for inner in resource.subresources())


def _is_found(resolver: Any, reference: str) -> bool:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        return False
    return True

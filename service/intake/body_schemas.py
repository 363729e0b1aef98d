"""What the bodies of a webhook must look like: JSON Schema, compiled once, held against each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from pipelines.errors import MillraceError

_LATEST = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_MAX_MISFITS = 3  # told of one body
_MAX_CHARACTERS = 300  # of each


class BodySchemaError(MillraceError):
    """A `schema` that cannot be used. One sentence."""


@dataclass(frozen=True, slots=True)
class BodySchema:
    """A schema that leads nowhere outside of itself: checking a body fetches nothing."""

    validator: Any = field(repr=False)  # jsonschema has no types

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
        return cls(kind(schema, registry=Registry()))

    def misfit(self, data: Any) -> str | None:
        """Return where and why `data` does not fit, None when it does."""
        try:
            found = list(islice(self.validator.iter_errors(data), _MAX_MISFITS))
        except Exception as error:  # whatever a strange body makes the library raise: it is no acceptance
            why = "it leads too deep" if isinstance(error, RecursionError) else str(error)[:_MAX_CHARACTERS]
            return f"the body cannot be held against the trigger's `schema`: {why}"
        if not found:
            return None
        return f"the body does not fit the trigger's `schema`: {'; '.join(map(_sentence, found))}"


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

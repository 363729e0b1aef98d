"""What a data integration block is told: its source, its destination, and how the one goes into the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.blocks.rendering import rendered
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError
from pipelines.parse_fields import closest, listed
from pipelines.parse_integration import DESTINATIONS, DISPOSITIONS, HINTS, KEYS, SOURCES
from pipelines.parse_templated import read_templated
from pipelines.parse_yaml import YamlFault

_DESTINATION_OF_KEY = {
    "POSTGRES_HOST": "postgres",
    "DUCKDB_DATABASE": "duckdb",
    "GOOGLE_SERVICE_ACC_KEY": "bigquery",
    "GOOGLE_SERVICE_ACC_KEY_FILEPATH": "bigquery",
}


@dataclass(frozen=True)
class Hints:
    """How a resource is loaded; None leaves it as the source says."""

    write_disposition: str | None = None
    primary_key: Any = None
    incremental: Mapping[str, Any] | None = None  # cursor, initial


@dataclass(frozen=True)
class IntegrationSettings:
    """One data integration block."""

    source: Mapping[str, Any]  # empty where the block's own code makes it
    kind: str  # of the destination
    profile: str
    dataset: str
    path: str | None  # of a destination in files
    hints: Hints  # for all resources
    resources: Mapping[str, Hints]  # the only ones to load; empty: all

    @classmethod
    def of(cls, context: BlockContext) -> IntegrationSettings:
        """Read a block's YAML, or the configuration of one in Python. Raises BlockCodeError."""
        where = context.block.path
        given = _given(context)
        unknown = next((str(key) for key in given if key not in KEYS), None)
        if unknown:
            hint = closest(unknown, KEYS)
            raise BlockCodeError(f"{where}: unknown key {unknown!r}; it may have {listed(KEYS)}{hint}")
        destination = _mapping(where, given, "destination")
        profile = str(destination.get("profile") or "default")
        return cls(
            source=_source(where, given) if context.block.language == "yaml" else {},
            kind=_kind(context, destination, profile),
            profile=profile,
            dataset=str(destination.get("dataset") or destination.get("schema") or context.pipeline.name),
            path=destination.get("path"),
            hints=_hints(where, given),
            resources=_resources(where, given.get("resources")),
        )


def _given(context: BlockContext) -> Mapping[str, Any]:
    block = context.block
    if block.language != "yaml":
        own = {key: value for key, value in block.configuration.items() if key in KEYS}
        found = rendered(context, own, where=block.path)
    else:
        try:
            found = rendered(context, read_templated(context.source).value, where=block.path)
        except YamlFault as fault:
            raise BlockCodeError(f"{block.path}:{fault.line}: {fault.message}") from None
    if not isinstance(found, Mapping):
        raise BlockCodeError(f"{block.path}: write a mapping with `source` and `destination`")
    return found


def _mapping(where: str, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = given.get(key) or {}
    if not isinstance(found, Mapping):
        raise BlockCodeError(f"{where}: `{key}` must be a mapping of keys and values")
    return found


def _source(where: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    source = _mapping(where, given, "source")
    if source.get("type") not in SOURCES:
        raise BlockCodeError(
            f"{where}: the `type` of `source` is {source.get('type')!r}; it may be one of {listed(SOURCES)}"
        )
    return source


def _kind(context: BlockContext, destination: Mapping[str, Any], profile: str) -> str:
    """Return the kind of destination: what is said, or what the profile has settings for."""
    kind = destination.get("type")
    if kind is None:
        settings = context.profiles.profile(profile)
        found = {of for key, of in _DESTINATION_OF_KEY.items() if settings.get(key) is not None}
        if len(found) == 1:
            return found.pop()
        told = f"profile {profile!r} has the settings of {listed(found) or 'none'}, and no `type` is given"
    else:
        told = f"the `type` is {kind!r}"
    if kind not in DESTINATIONS:
        raise BlockCodeError(
            f"{context.block.path}: `destination`: {told}; name one by `type`: {listed(DESTINATIONS)}"
        )
    return str(kind)


def _hints(where: str, given: Mapping[str, Any]) -> Hints:
    disposition = given.get("write_disposition")
    if disposition is not None and disposition not in DISPOSITIONS:
        raise BlockCodeError(
            f"{where}: `write_disposition` is {disposition!r}; it may be one of {listed(DISPOSITIONS)}"
        )
    incremental = given.get("incremental")
    if incremental is not None and not (isinstance(incremental, Mapping) and incremental.get("cursor")):
        raise BlockCodeError(f"{where}: `incremental` must name its `cursor`, the column that grows")
    return Hints(disposition, given.get("primary_key"), incremental)


def _resources(where: str, given: Any) -> Mapping[str, Hints]:
    """Read a list of names, or a mapping of names to what concerns that resource only."""
    if given is None:
        return {}
    if isinstance(given, list):
        return {str(name): Hints() for name in given}
    if not isinstance(given, Mapping):
        raise BlockCodeError(f"{where}: `resources` must be a list of names, or a mapping of them")
    for name, hints in given.items():
        if not isinstance(hints, Mapping | None) or not set(hints or {}) <= set(HINTS):
            raise BlockCodeError(f"{where}: resource {name!r} may have {listed(HINTS)}")
    return {str(name): _hints(where, hints or {}) for name, hints in given.items()}

"""What the configuration of a SQL block says: where it runs, and what becomes of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import io
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError
from pipelines.io.base import Policy
from pipelines.io.errors import QueryFailed
from pipelines.io.sqlconnector import SqlConnector
from pipelines.model import Block
from pipelines.sql_providers import PROVIDERS
from pipelines.templating import expression, is_template


def connector_class(provider: str) -> type[SqlConnector]:
    """Return the connector of a provider."""
    found: type[SqlConnector] = getattr(io, PROVIDERS[provider].connector)
    return found


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What the configuration of a SQL block says."""

    provider: str
    profile: str
    schema: str | None
    table: str
    policy: Policy
    is_raw: bool
    is_whole: bool  # the text is sent as it is, in one piece, and gives nothing back
    limit: int | None

    @classmethod
    def of(cls, context: BlockContext, block: Block) -> SqlSettings:
        given = block.configuration
        provider, profile = place_of(context, block)
        _check_database(context, block, provider, profile)
        limit = given.get("limit_in_pipeline_run")
        return cls(
            provider=provider,
            profile=profile,
            schema=_schema_of(context, given, provider),
            table=_rendered_value(context, given.get("data_provider_table")) or _own_table(context, block),
            policy=Policy.of(
                given.get("export_write_policy") or "append",
                unique_constraints=given.get("unique_constraints"),
                unique_conflict_method=given.get("unique_conflict_method"),
            ),
            is_raw=bool(given.get("use_raw_sql")),
            is_whole=bool(given.get("disable_query_preprocessing")),
            limit=None if limit in (None, "") else int(limit),
        )


def _schema_of(context: BlockContext, given: Mapping[str, Any], provider: str) -> str | None:
    """Return the schema: of BigQuery a dataset, in the project that is named; of MySQL a database."""
    schema = _rendered_value(context, given.get("data_provider_schema")) or None
    database = _rendered_value(context, given.get("data_provider_database"))
    if provider == "bigquery" and database and schema:
        return f"{database}.{schema}"
    if provider == "mysql":
        return schema or database or None
    return schema


def place_of(context: BlockContext, block: Block) -> tuple[str, str]:
    """Return the provider and the profile of a SQL block."""
    given = block.configuration
    profile = _rendered_value(context, given.get("data_provider_profile") or "default")
    provider = str(given.get("data_provider") or "") or _provider_of(context.profiles.profile(profile))
    if provider not in PROVIDERS:
        raise BlockCodeError(
            f"{block.path}: the configuration of block {block.name!r} says data_provider: "
            f"{provider or 'nothing'}; use one of {', '.join(PROVIDERS)}"
        )
    return provider, profile


def _check_database(context: BlockContext, block: Block, provider: str, profile: str) -> None:
    """Raise when the block names another database than its profile connects to."""
    key = PROVIDERS[provider].database_key
    wanted = _rendered_value(context, block.configuration.get("data_provider_database"))
    if key is None or not wanted:
        return
    there = context.profiles.profile(profile).get(key)
    if str(wanted) != str(there):
        raise BlockCodeError(
            f"{block.path}: the configuration of block {block.name!r} says data_provider_database: {wanted}, "
            f"but profile {profile!r} connects to {there}; name a profile that connects to it"
        )


def _provider_of(profile: Mapping[str, Any]) -> str:
    """Return the provider that a profile has settings for, where it is one: a block need not say it again."""
    found = [name for name, provider in PROVIDERS.items() if profile.get(provider.tell_key) is not None]
    return found[0] if len(found) == 1 else ""


def _own_table(context: BlockContext, block: Block) -> str:
    """Return the name Mage gives to the table of a block that names none."""
    env = str(context.keywords.get("env") or "prod")
    prefix = f"{env}_" if env in ("dev", "test") else ""
    return f"{prefix}{context.pipeline.name}_{block.name.replace('/', '_').replace(':', '__')}_v1"


def _rendered_value(context: BlockContext, value: Any) -> Any:
    if not is_template(value):
        return value
    return expression(value).evaluate_with({**names_of(context), **functions_of(context)})


def names_of(context: BlockContext) -> dict[str, Any]:
    return {name: value for name, value in context.keywords.items() if name != "logger"}


def functions_of(context: BlockContext) -> dict[str, Any]:
    def variables(name: str) -> Any:
        if name not in context.keywords:
            raise QueryFailed(f"variables({name!r}): the run has no such variable")
        return context.keywords[name]

    return {**context.profiles.functions, "variables": variables}

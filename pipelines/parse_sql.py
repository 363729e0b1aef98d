"""Checks the configuration of a SQL block."""

from __future__ import annotations

from typing import Any

from pipelines.parse_fields import Section, closest, listed, words
from pipelines.sql_providers import ONLY_OF_MAGE, PROVIDERS

_KEYS = words(
    """
    data_provider data_provider_database data_provider_profile data_provider_schema data_provider_table
    disable_query_preprocessing dynamic dynamic_combine export_write_policy file_path file_source limit
    limit_in_pipeline_run poll_interval reduce_output unique_conflict_method unique_constraints
    unique_upstream_table_name upstream_block_configuration use_raw_sql variables
    """
)
_POLICIES = ("append", "replace", "fail", "merge")


def check_sql_configuration(section: Section) -> None:
    """Report what a SQL block's `configuration` says that cannot be done, or would have no effect."""
    configuration = section.section("configuration", section.what)
    _check_provider(configuration, configuration.get("data_provider"))
    _check_policy(configuration)
    for key in ("use_raw_sql", "disable_query_preprocessing"):
        configuration.boolean(key, default=False)
    if configuration.get("limit_in_pipeline_run") != "":
        configuration.count("limit_in_pipeline_run")
    _check_upstream_tables(configuration)
    _warn_of_misspelt_keys(configuration)


def _check_provider(configuration: Section, provider: Any) -> None:
    """Warn of a provider that only Mage has: the rest of the pipeline can run."""
    if provider in (None, "", *PROVIDERS):
        return
    if provider in ONLY_OF_MAGE:
        configuration.warning(
            "data_provider",
            f"SQL on '{provider}' is not run, so the block would fail; {listed(PROVIDERS)} are. "
            f"Write it in Python, by pipelines.io.SQLAlchemy",
        )
    else:
        configuration.error(
            "data_provider", f"the data_provider {provider!r} is unknown (known: {listed(PROVIDERS)})"
        )


def _warn_of_misspelt_keys(configuration: Section) -> None:
    """Warn of keys that look like one of ours; any other may be a variable of the block's own."""
    for key in configuration.values:
        if key not in _KEYS and (hint := closest(key, _KEYS)):
            configuration.warning(key, f"unknown key '{key}' of the configuration of a SQL block{hint}")


def _check_policy(configuration: Section) -> None:
    policy = configuration.text("export_write_policy", "append").lower() or "append"
    if policy not in _POLICIES:
        hint = closest(policy, _POLICIES)
        configuration.error(
            "export_write_policy", f"`export_write_policy` must be one of {', '.join(_POLICIES)}{hint}"
        )
    keys = configuration.texts("unique_constraints")
    if policy == "merge" and not keys:
        configuration.error(
            "export_write_policy", "`merge` needs `unique_constraints`: the columns that identify a row"
        )
    method = configuration.text("unique_conflict_method", "update").lower()
    if method not in ("update", "ignore"):
        configuration.error("unique_conflict_method", "`unique_conflict_method` must be update or ignore")


def _check_upstream_tables(configuration: Section) -> None:
    tables = configuration.mapping("upstream_block_configuration")
    if any(isinstance(of_block, dict) and of_block.get("table_name") for of_block in tables.values()):
        configuration.warning(
            "upstream_block_configuration",
            "`table_name` of an upstream block has no effect; its rows are {{ df_1 }}, {{ df_2 }}, ...",
        )

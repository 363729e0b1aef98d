"""Which names of `mage_ai` there are, where each of them lives here, and what to do about the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from pipelines.errors import TerminalError
from pipelines.parse_fields import closest, words

ROOT_NAME = "mage_ai"

_DECORATORS = words(
    "data_loader transformer data_exporter sensor custom callback condition test on_success on_failure"
)
# They can be imported, so that files which carry them can be read; nothing calls what they mark.
_MARKS = words(
    """
    preprocesser extension render columns x y xy data_source configuration streaming_source streaming_sink
    data_integration_source data_integration_destination data_integration_catalog data_integration_config
    data_integration_selected_streams data_integration_query
    """
)

# Each module of `mage_ai`, below its root: our module, and the names in it.
MODULES: Mapping[str, tuple[str, frozenset[str]]] = {
    module: (f"pipelines.mage.{ours}", words(names))
    for module, ours, names in (
        ("", "running", "run"),
        ("data_preparation.decorators", "decorators", " ".join(_DECORATORS | _MARKS)),
        ("settings.repo", "repository", "get_repo_path get_repo_name get_data_dir get_variables_dir"),
        (
            "data_preparation.repo_manager",
            "repository",
            "get_repo_path get_repo_name get_data_dir get_variables_dir",
        ),
        ("io.config", "profiles", "ConfigFileLoader ConfigKey EnvironmentVariableLoader BaseConfigLoader"),
        ("io.base", "formats", "DataSource FileFormat ExportWritePolicy BaseIO"),
        ("io.constants", "formats", "UNIQUE_CONFLICT_METHOD_IGNORE UNIQUE_CONFLICT_METHOD_UPDATE"),
        ("io.postgres", "databases", "Postgres"),
        ("io.mysql", "databases", "MySQL"),
        ("io.duckdb", "databases", "DuckDB"),
        ("io.sqlite", "databases", "SQLite"),
        ("io.mssql", "addressed", "MSSQL"),
        ("io.oracledb", "addressed", "OracleDB"),
        ("io.redshift", "addressed", "Redshift"),
        ("io.snowflake", "addressed", "Snowflake"),
        ("io.bigquery", "bigquery", "BigQuery"),
        ("io.google_cloud_storage", "objects", "GoogleCloudStorage"),
        ("io.s3", "objects", "S3"),
        ("io.file", "files", "FileIO"),
        ("data_preparation.shared.secrets", "secrets", "get_secret_value create_secret"),
        (
            "data_preparation.variable_manager",
            "variables",
            """
            get_variable set_global_variable get_global_variable get_global_variables delete_global_variable
            """,
        ),
        ("data_preparation.models.constants", "constants", "BlockLanguage BlockType PipelineType"),
        ("orchestration.triggers.api", "triggers", "trigger_pipeline"),
        ("orchestration.run_status_checker", "triggers", "check_status"),
        ("data_cleaner.transformer_actions.base", "actions", "BaseAction"),
        ("data_cleaner.transformer_actions.utils", "actions", "build_transformer_action"),
        ("data_cleaner.transformer_actions.constants", "constants", "ActionType Axis ImputationStrategy"),
        ("data_cleaner.column_types.column_type_detector", "columntypes", "infer_column_types"),
        ("data_cleaner.column_types.constants", "constants", "ColumnType"),
        ("data_cleaner.column_type_detector", "columntypes", "infer_column_types"),
        ("shared.parsers", "columntypes", "convert_matrix_to_dataframe"),
        ("shared.utils", "cleaning", "clean_name"),
        ("streaming.base", "streaming", "BaseStreamingPipeline"),
        ("streaming.sources.base_python", "streaming", "BasePythonSource"),
        ("streaming.sinks.base_python", "streaming", "BasePythonSink"),
    )
}

_USE_SQLALCHEMY = "use sqlalchemy in the block, or `from pipelines.io import SQLAlchemy` with a URL"
_MAKE_SESSION = "make the session in the block: SparkSession.builder.getOrCreate()"
_USE_SCHEDULES = "ask the API for runs, or use trigger_pipeline"

# What is known of Mage, and not here: the words after its name in the message.
REMEDIES: Mapping[str, str] = {
    "io.trino": _USE_SQLALCHEMY,
    "io.clickhouse": "use clickhouse-connect in the block",
    "io.mongodb": "use pymongo in the block",
    "io.iceberg_s3": "use pyiceberg in the block",
    "io.azure_blob_storage": "use azure-storage-blob in the block",
    "io.google_sheets": "use gspread in the block",
    "io.algolia": "use algoliasearch in the block",
    "io.chroma": "use chromadb in the block",
    "io.qdrant": "use qdrant-client in the block",
    "io.weaviate": "use weaviate-client in the block",
    "io.opensearch": "use opensearch-py in the block",
    "io.druid": "use pydruid in the block",
    "io.pinot": "use pinotdb in the block",
    "io.spark": _MAKE_SESSION,
    "data_preparation.models.block.remote": "use get_variable, or block_output in SQL",
    "io.config.AWSSecretLoader": "use boto3 in the block, or put the value into a profile",
    "services.spark": _MAKE_SESSION,
    "orchestration.db": _USE_SCHEDULES,
    "data_preparation.models.pipeline": _USE_SCHEDULES,
    "data_preparation.repo_manager.RepoConfig": "read metadata.yaml by get_repo_path()",
    "streaming": "streaming pipelines are not run; use a webhook, Pub/Sub or sensor trigger",
}


# What works, and not quite as in Mage.
DIFFERS: Mapping[str, str] = {
    **{f"data_preparation.decorators.{name}": "nothing calls the function that it marks" for name in _MARKS},
    "run": "waits for the run of the whole pipeline; block_uuid and run_sensors choose nothing",
    "data_cleaner.transformer_actions.constants.ActionType": "custom, expand_column, group, join, "
    "remove_outliers, union, update_type and update_value are refused: write them with pandas",
    "data_preparation.shared.secrets.create_secret": "refused: write the file in the secrets folder",
    "data_preparation.shared.secrets.get_secret_value": "looks into the environment (MILLRACE_SECRET_NAME) "
    "and the secrets folder, and is an error where nothing is there",
    "data_preparation.variable_manager.get_variable": "of the latest successful run",
    "io.bigquery.BigQuery": "execute waits for the end of the statements; export takes no overwrite_types",
    "io.config.ConfigFileLoader": "a variable that is not set is an error of who asks for the value, and no "
    "text 'None'",
    "io.file.FileIO": "export writes no HDF5 and no XML",
    "io.google_cloud_storage.GoogleCloudStorage": "load of an object that is not there is an error, and no "
    "empty frame",
    "io.mssql.MSSQL": "by SQLAlchemy, with pyodbc installed; tried on no server",
    "io.oracledb.OracleDB": "by SQLAlchemy, with oracledb installed; tried on no server",
    "io.redshift.Redshift": "by SQLAlchemy, with sqlalchemy-redshift installed; tried on no server",
    "io.snowflake.Snowflake": "by SQLAlchemy, with snowflake-sqlalchemy installed; tried on no server",
    "io.mysql.MySQL": "what was executed is kept when the `with` ends well, also without commit()",
    "io.duckdb.DuckDB": "what was executed is kept when the `with` ends well, also without commit()",
    "io.sqlite.SQLite": "what was executed is kept when the `with` ends well, also without commit()",
    "io.postgres.Postgres": "what was executed is kept when the `with` ends well, also without commit(); "
    "replace takes other columns too; no SSH tunnel",
    "io.s3.S3": "load of an object that is not there is an error, and no empty frame",
    "orchestration.run_status_checker.check_status": "looks for a success since `hours` before the moment; "
    "one that failed raises nothing",
    "orchestration.triggers.api.trigger_pipeline": "once over all tries of the block; passes execution_date "
    "on; waits without polling",
    "streaming.base.BaseStreamingPipeline": "can be imported; making one is refused",
    "streaming.sources.base_python.BasePythonSource": "can be imported; making one is refused",
    "streaming.sinks.base_python.BasePythonSink": "can be imported; making one is refused",
}


class MageNameMissing(TerminalError, ImportError):
    """A name of `mage_ai` that Millrace does not have."""


def modules() -> Iterator[str]:
    """Yield the dotted names of all modules, the packages around them included."""
    told: set[str] = set()
    for below in MODULES:
        parts = [ROOT_NAME, *below.split(".")] if below else [ROOT_NAME]
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if name not in told:
                told.add(name)
                yield name


def is_module(name: str) -> bool:
    """Tell whether `mage_ai...` is a module that can be imported, or a package of some."""
    below = _below(name)
    return not below or any(known == below or known.startswith(f"{below}.") for known in MODULES)


def has_name(module: str, name: str) -> bool:
    """Tell whether `from module import name` works."""
    return name in MODULES.get(_below(module), ("", ()))[1] or is_module(f"{module}.{name}")


def resolve(module: str, name: str) -> Any:
    """Return what a name of a module of `mage_ai` stands for. Raises MageNameMissing."""
    ours, names = MODULES.get(_below(module), ("", frozenset()))
    if name not in names:
        raise missing(module, name)
    return getattr(import_module(ours), name)


def missing(module: str, name: str = "") -> MageNameMissing:
    """Return the error that says what is not there, and what to do."""
    return MageNameMissing(sentence(module, name))


def sentence(module: str, name: str = "") -> str:
    """Return which name is not there, and what to do, in one line."""
    whole = f"{module}.{name}" if name else module
    return f"{whole} is not in Millrace; {_remedy(_below(whole)) or _other_names(module, name)}"


def _below(name: str) -> str:
    return name.partition(".")[2]


def _remedy(below: str) -> str | None:
    while below:
        if below in REMEDIES:
            return REMEDIES[below]
        below = below.rpartition(".")[0]
    return None


def _other_names(module: str, name: str) -> str:
    names = MODULES.get(_below(module), ("", frozenset()))[1]
    if name and names:
        return f"{module} has {', '.join(sorted(names))}{closest(name, names)}"
    return "write that part with a library of your own; docs/mage.md lists the names there are"

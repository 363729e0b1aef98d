"""Keys of Mage's YAML files that are read without a word, and change nothing here."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.parse_fields import words

_OWN_BOOKS = "a note for people, or of Mage's own books"
_WORKERS = "blocks run in local worker processes"
_SPARK = "make the session in the block: SparkSession.builder.getOrCreate()"
_STATE = "outputs are stored in the state folder, MILLRACE_HOME"
_NOTIFICATIONS = "nobody is told yet; let a trigger on run.failed start a pipeline that tells"
_OVERRIDES = "write the values themselves"
_PRODUCT_HERE = "products are made by pipelines of the project"

# Which kind of mapping -> why its keys have no effect -> the keys.
_REASONS: Mapping[str, Mapping[str, str]] = {
    "project": {
        _OWN_BOOKS: "project_type project_uuid help_improve_mage features pipeline_cache pipelines settings",
        _STATE: "variables_dir remote_variables_dir",
        "the MILLRACE_*_DAYS say how long outputs are kept": "variables_retention_period",
        "MILLRACE_DATABASE_URL says where the store is": "database_connection_url",
        "MILLRACE_LOG_LEVEL and MILLRACE_LOG_FORMAT say how it logs": "logging_config",
        "secrets come from the environment and the secrets folder": "settings_backend",
        "write it into the pipeline or the trigger": "concurrency_config",
        _NOTIFICATIONS: "notification_config",
        _WORKERS: """
            cluster_type queue_config ecs_config gcp_cloud_run_config k8s_executor_config
            azure_container_instance_config
        """,
        _SPARK: "spark_config emr_config",
        "tokens say who may do what": "ldap_config",
        "there is no such assistant": "ai_config openai_api_key",
        "one service serves several projects": "workspace_config_defaults workspace_initial_metadata",
        _OVERRIDES: "overrides",
    },
    "pipeline": {
        _OWN_BOOKS: "name created_at updated_at created_by settings widgets",
        "its dlt blocks are declared by type: data_integration": "data_integration state_store_config",
        "write such checks as @test functions, or as checks of the block": "extensions",
        _WORKERS: "executor_type executor_config executor_count execution_framework",
        "outputs go from block to block in memory anyway": """
            run_pipeline_in_one_process cache_block_output_in_memory
        """,
        _NOTIFICATIONS: "notification_config",
        _SPARK: "spark_config",
        _STATE: "variables_dir remote_variables_dir",
        _OVERRIDES: "overrides",
    },
    "block": {
        _OWN_BOOKS: "color status content catalog description tags interactions outputs pipelines groups",
        "upstream_blocks of the others say it": "downstream_blocks",
        "it only tells that Mage's editor wrote the block": "all_upstream_blocks_executed",
        "conditionals and callbacks name the blocks that they guard": "callback_blocks conditional_blocks",
        _WORKERS: "executor_type executor_config",
    },
    "configuration": {
        "it is about previews in the notebook": "limit disable_output_preview sample_count_preview",
        "{{ df_1 }}, {{ df_2 }}, ... are the rows of upstream blocks": """
            upstream_block_configuration unique_upstream_table_name
        """,
        "return an iterator of frames, and mark what takes it by stream=True": "variables",
        "it says from which template the block was made": "templates",
    },
    "trigger": {
        "the folder says which pipeline it starts": "pipeline_uuid repo_path",
        _OWN_BOOKS: "id created_at updated_at last_enabled_at",
        "a block of type global_data_product starts what it needs": "global_data_product_uuid",
        "nobody is told of a run that takes longer; settings.timeout ends it": "sla",
    },
    "settings": {
        "the run starts at the tick itself": "landing_time_enabled",
        "the first run is that of the next tick": "create_initial_pipeline_run",
        _OWN_BOOKS: "invalid_schedule_interval",
    },
    "data product": {_PRODUCT_HERE: "repo_path project"},
}

WITHOUT_EFFECT: Mapping[str, Mapping[str, str]] = {
    kind: {key: reason for reason, keys in reasons.items() for key in words(keys)}
    for kind, reasons in _REASONS.items()
}


# What Mage writes into every file by itself.
_WRITTEN_BY_MAGE = words("all_upstream_blocks_executed downstream_blocks variables_dir")
_USUAL = ("local_python", "local_python_force", 1)  # of executor_type and executor_count


def is_missed(kind: str, key: str, value: object) -> bool:
    """Tell whether somebody has asked for something by this key, and does not get it."""
    reason = WITHOUT_EFFECT[kind].get(key, _OWN_BOOKS)
    if reason == _OWN_BOOKS or key in _WRITTEN_BY_MAGE:
        return False
    return bool(value) and not (reason == _WORKERS and value in _USUAL)

"""A project as Mage writes it loads without a word of complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.projects import ProjectFolder, errors

PROJECT = """\
project_type: standalone
cluster_type: k8s
variables_dir: ~/.mage_data
remote_variables_dir: s3://bucket/path_prefix
variables_retention_period: '90d'
help_improve_mage: true
project_uuid: 7f1d
retry_config: {retries: 0, delay: 5, max_delay: 60, exponential_backoff: true}
notification_config:
  alert_on: [trigger_failure, trigger_passed_sla]
  slack_config:
    webhook_url: "{{ env_var('SLACK') }}"
queue_config: {queue_type: process, concurrency: {{ env_var('CONCURRENCY') }}}
features: {data_integration_in_batch_pipeline: false}
"""

PIPELINE = """\
blocks:
- all_upstream_blocks_executed: true
  color: null
  configuration:
    file_source:
      path: data_loaders/load_trips.py
  downstream_blocks: [clean_trips]
  executor_config: null
  executor_type: local_python
  has_callback: false
  language: python
  name: Load trips
  retry_config: null
  status: executed
  timeout: null
  type: data_loader
  upstream_blocks: []
  uuid: load_trips
- all_upstream_blocks_executed: true
  color: null
  configuration: {file_path: my-shop/transformers/clean.py}
  downstream_blocks: [to_postgres]
  executor_config: null
  executor_type: local_python
  has_callback: false
  language: python
  name: clean trips
  retry_config: {}
  status: updated
  timeout: '600'
  type: transformer
  upstream_blocks: [load_trips]
  uuid: clean_trips
- configuration:
    data_provider: postgres
    data_provider_profile: dev
    data_provider_schema: public
    data_provider_table: trips
    export_write_policy: replace
    use_raw_sql: false
    disable_query_preprocessing: false
    limit: 1000
    dbt: {}
  language: sql
  name: to_postgres
  type: data_exporter
  upstream_blocks: [clean_trips]
  uuid: to_postgres
- {language: markdown, name: notes, type: markdown, upstream_blocks: [], uuid: notes}
- {language: python, name: draft, type: scratchpad, upstream_blocks: [], uuid: draft}
cache_block_output_in_memory: false
callbacks: []
concurrency_config: {}
conditionals: []
created_at: '2024-01-31 10:11:12.131415+00:00'
created_by: null
data_integration: null
description: null
executor_config: {}
executor_count: 1
executor_type: null
extensions: {}
name: api to postgres
notification_config: {}
overrides: {}
remote_variables_dir: null
retry_config: {}
run_pipeline_in_one_process: false
settings:
  triggers: null
spark_config: {}
state_store_config: {}
tags: []
type: python
updated_at: '2024-01-31 10:11:13'
uuid: api_to_postgres
variables:
  color: yellow
variables_dir: /home/src/mage_data/my-shop
widgets: []
"""


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    folder = ProjectFolder(tmp_path / "my-shop")
    folder.write("metadata.yaml", PROJECT)
    folder.write(
        "io_config.yaml", "version: 0.1.1\ndefault: {}\ndev:\n  POSTGRES_PORT: {{ env_var('PORT') }}\n"
    )
    folder.block("load_trips")
    folder.block("clean", "transformer")
    folder.write("data_exporters/to_postgres.sql", "select * from {{ df_1 }}\n")
    folder.write("pipelines/api_to_postgres/metadata.yaml", PIPELINE)
    return folder


def test_project_of_mage_loads_without_noise(folder: ProjectFolder) -> None:
    project = folder.load()

    assert project.problems == ()
    assert project.name == "my_shop"
    pipeline = project.pipelines["api_to_postgres"]
    assert [block.name for block in pipeline.blocks] == ["load_trips", "clean_trips", "to_postgres"]
    assert pipeline.block("clean_trips").timeout_seconds == 600
    assert pipeline.variables == {"color": "yellow"}


def test_a_replica_of_nothing_is_told(folder: ProjectFolder) -> None:
    folder.pipeline(
        "places",
        """\
        blocks:
        - {uuid: one, type: custom, replicated_block: two}
        - {uuid: two, type: custom, replicated_block: one}
        """,
    )

    assert errors(folder.load(), "places") == [
        (
            2,
            "block 'one': its code is missing, and its `replicated_block` 'two' has none; "
            "write it to custom/one.py, or remove the block",
        ),
        (
            3,
            "block 'two': its code is missing, and its `replicated_block` 'one' has none; "
            "write it to custom/two.py, or remove the block",
        ),
    ]


def test_code_is_found_where_mage_looks_for_it(folder: ProjectFolder) -> None:
    folder.write("../shared/lib.py", "@custom\ndef run(): pass\n")
    folder.write(
        "pipelines/places/metadata.yaml",
        """\
        blocks:
        - {uuid: copy, type: data_loader, replicated_block: load_trips}
        - {uuid: copy_of_copy, type: data_loader, replicated_block: copy}
        - {uuid: load_trips, type: data_loader, configuration: {file_source: {path: /home/src/old/x.py}}}
        - {uuid: beside, type: custom, configuration: {file_path: shared/lib.py}}
        - {uuid: below, type: custom, configuration: {file_path: /home/src/my-old-shop/custom/sub/deep.py}}
        - {uuid: sub/deep, type: custom}
        """,
    )
    folder.block("sub/deep", "custom")

    project = folder.load()

    assert project.problems == ()
    assert {block.name: block.path for block in project.pipelines["places"].blocks} == {
        "copy": "data_loaders/load_trips.py",
        "copy_of_copy": "data_loaders/load_trips.py",
        "load_trips": "data_loaders/load_trips.py",
        "beside": "../shared/lib.py",
        "below": "custom/sub/deep.py",
        "sub/deep": "custom/sub/deep.py",
    }

"""What only BigQuery does: layouts, dispositions, labels, costs; asked of the emulator by Google's client."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.cloud import bigquery

from pipelines.io import BigQuery
from pipelines.io.bigquery import writing
from pipelines.io.config import ProfileError
from pipelines.io.errors import ExportRefused, QueryFailed
from tests.parts.bigquery import BigQueryEmulator
from tests.pipelines.io.projects import running_block, write_profiles

ROWS = pd.DataFrame({"day": [date(2024, 1, 1), date(2024, 1, 2)], "shop": ["a", "b"], "n": [1, 2]})


@pytest.fixture
def dataset(bigquery: BigQueryEmulator) -> str:
    """A dataset that is not there yet."""
    return f"fresh_{bigquery.number()}"


@pytest.fixture
def connector(bigquery: BigQueryEmulator, tmp_path: Path, dataset: str) -> BigQuery:
    return made(bigquery, tmp_path, GOOGLE_BIGQUERY_DATASET=dataset)


@pytest.fixture
def client(bigquery: BigQueryEmulator) -> Iterator[bigquery.Client]:
    with closing(bigquery.client()) as client:
        yield client


def made(emulator: BigQueryEmulator, root: Path, **keys: Any) -> BigQuery:
    known = {"GOOGLE_BIGQUERY_ENDPOINT": emulator.endpoint, "GOOGLE_PROJECT_ID": emulator.project}
    return BigQuery.from_profile(write_profiles(root, default={**known, **keys}).profile())


def jobs_of(client: bigquery.Client, run_id: str) -> list[Any]:
    """Return the jobs of a run, the last one first."""
    return [job for job in client.list_jobs() if job.labels.get("run_id") == run_id]


def test_rows_go_in_by_one_load_job_from_parquet_with_the_labels_of_its_run(
    connector: BigQuery, client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    with running_block(tmp_path, run_id=dataset):
        connector.export(ROWS, table_name="t")

    (job,) = jobs_of(client, dataset)
    assert isinstance(job, bigquery.LoadJob)
    assert job.source_format == "PARQUET"
    assert job.labels == {
        "created_by": "millrace",
        "run_id": dataset,
        "pipeline": "trips",
        "block": "export",
        "rows": "2",
    }


@pytest.mark.parametrize(
    ("if_exists", "disposition"),
    [("replace", "WRITE_TRUNCATE"), ("append", "WRITE_APPEND"), ("fail", "WRITE_EMPTY")],
)
def test_each_policy_has_its_disposition(
    connector: BigQuery,
    client: bigquery.Client,
    dataset: str,
    tmp_path: Path,
    if_exists: str,
    disposition: str,
) -> None:
    with running_block(tmp_path, run_id=dataset):
        connector.export(ROWS, table_name="t", if_exists=if_exists)

    (job,) = jobs_of(client, dataset)
    assert job.write_disposition == disposition


def test_a_merge_is_one_statement_by_keys_and_leaves_nothing_aside(
    connector: BigQuery, client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    connector.export(ROWS, table_name="t")

    with running_block(tmp_path, run_id=dataset):
        connector.export(ROWS.assign(n=9)[1:], table_name="t", if_exists="merge", keys=["day", "shop"])

    merge, _keys, load = jobs_of(client, dataset)
    assert (merge.statement_type, load.job_type) == ("MERGE", "load")
    assert sorted(connector.load("SELECT n FROM t")["n"]) == [1, 9]
    assert [table.table_id for table in client.list_tables(dataset)] == ["t"]


def test_the_project_is_that_of_the_key_where_the_profile_names_none(
    bigquery: BigQueryEmulator, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    key = {"GOOGLE_SERVICE_ACC_KEY": {"project_id": bigquery.project}}

    assert made(bigquery, tmp_path, GOOGLE_PROJECT_ID="", **key).export(ROWS, f"{dataset}.t") == 2
    with pytest.raises(ProfileError, match="'default' names no project for BigQuery; add GOOGLE_PROJECT_ID"):
        made(bigquery, tmp_path, GOOGLE_PROJECT_ID="").load("SELECT 1")


def test_a_dataset_is_made_where_the_profile_says(
    bigquery: BigQueryEmulator, client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    made(bigquery, tmp_path, GOOGLE_LOCATION="EU").export(ROWS, f"{dataset}.t")

    assert client.get_dataset(dataset).location == "EU"


def test_a_new_table_is_partitioned_and_clustered(
    connector: BigQuery, client: bigquery.Client, dataset: str
) -> None:
    connector.export(
        ROWS,
        table_name="by_month",
        partition_by="day",
        partition_period="month",
        partition_expiration_days=30,
        require_partition_filter=True,
        cluster_by=["shop", "n"],
    )
    connector.export(
        ROWS, table_name="by_number", partition_by="n", partition_range=(0, 10, 2), cluster_by="shop"
    )

    table = client.get_table(f"{dataset}.by_month")
    assert table.clustering_fields == ["shop", "n"]
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "day")
    assert table.time_partitioning.expiration_ms == 30 * 86_400_000
    assert table.to_api_repr()["timePartitioning"]["requirePartitionFilter"]
    numbered = client.get_table(f"{dataset}.by_number")
    bounds = numbered.range_partitioning.range_
    assert (numbered.range_partitioning.field, bounds.start, bounds.end, bounds.interval) == ("n", 0, 10, 2)
    with pytest.raises(ExportRefused, match="partition_period='WEEK' is not known"):
        connector.export(ROWS, table_name="by_week", partition_by="day", partition_period="week")
    with pytest.raises(ExportRefused, match="want partitions by time"):
        connector.export(ROWS, table_name="none", require_partition_filter=True)


def test_an_append_adds_columns_only_where_it_says_so(connector: BigQuery) -> None:
    connector.export(ROWS, table_name="t")
    more = ROWS.assign(extra=1.5)

    with pytest.raises(ExportRefused, match=r"no column 'extra'"):
        connector.export(more, table_name="t", if_exists="append")
    connector.export(more, table_name="t", if_exists="append", schema_update_options=["ALLOW_FIELD_ADDITION"])

    assert sorted(connector.load("SELECT extra FROM t")["extra"].fillna(0)) == [0, 0, 1.5, 1.5]


def test_further_keywords_are_properties_of_the_job_and_others_are_refused(
    connector: BigQuery, client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    with running_block(tmp_path, run_id=dataset):
        connector.export(ROWS, table_name="t", destination_table_description="trips")

    (job,) = jobs_of(client, dataset)
    assert job.destination_table_description == "trips"
    with pytest.raises(TypeError, match="tabel_name"):
        connector.export(ROWS, table_name="t", tabel_name="x")


def test_what_a_query_was_billed_is_in_the_log(
    connector: BigQuery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_block(tmp_path), caplog.at_level(logging.INFO, "block.export"):
        connector.load("SELECT 1 AS a")

    assert "BigQuery billed 0 bytes for the query of job millrace_" in caplog.text


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let dry runs say what they would of a large table: the emulator says 0."""
    monkeypatch.setattr(bigquery.QueryJob, "total_bytes_processed", 5_000_000_000)


@pytest.mark.usefixtures("large")
def test_a_query_that_would_cost_too_much_is_not_run(
    bigquery: BigQueryEmulator, client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    limited = made(bigquery, tmp_path, GOOGLE_BIGQUERY_MAX_BYTES_BILLED=10**9)

    with running_block(tmp_path, run_id=dataset):
        with pytest.raises(QueryFailed, match=r"would read 5 GB, and may read 1 GB: it was not run"):
            limited.load("SELECT 1 AS a")
        with pytest.raises(QueryFailed, match="it was not run"):
            limited.execute("CREATE TABLE x.y AS SELECT 1 AS a")
        assert jobs_of(client, dataset) == []
        assert limited.load("SELECT 1 AS a", max_bytes_billed=10**10, frame="list") == [{"a": 1}]

    (job,) = jobs_of(client, dataset)
    assert job.maximum_bytes_billed == 10**10


def test_a_job_that_failed_is_followed_by_another_one(
    connector: BigQuery,
    client: bigquery.Client,
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load_something_else(*_: Any) -> Any:
        raise AssertionError("a job that ended well is not made again")

    def broken(jobs: Any, rows: Any, target: Any, config: Any, name: str) -> Any:
        rows.path.write_bytes(b"no Parquet")
        return load(jobs, rows, target, config, name)

    load = writing._load
    monkeypatch.setattr(writing, "_load", broken)
    with running_block(tmp_path, run_id=dataset), pytest.raises(ExportRefused, match=rf"{dataset}\.t"):
        connector.export(ROWS, table_name="t")
    monkeypatch.setattr(writing, "_load", load)
    with running_block(tmp_path, run_id=dataset, attempt=2):
        assert connector.export(ROWS, table_name="t") == 2
    monkeypatch.setattr(writing, "_load", load_something_else)
    with running_block(tmp_path, run_id=dataset, attempt=3):
        assert connector.export(ROWS, table_name="t") == 2

    assert len(connector.load("SELECT * FROM t")) == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.b"], r"'a\.b' may not hold '\.'"),
        (["a", "A"], "no notice of case"),
        (["_TABLE_x"], "keeps for itself"),
    ],
)
def test_names_that_bigquery_does_not_take_are_named(
    connector: BigQuery, names: list[str], said: str
) -> None:
    with pytest.raises(ExportRefused, match=said):
        connector.export(pd.DataFrame([range(len(names))], columns=names), table_name="t")


def test_names_are_cleaned_where_that_is_asked_for(connector: BigQuery) -> None:
    connector.export(pd.DataFrame({"Fare (USD)": [1], "2nd": [2]}), table_name="t", column_names="clean")

    assert connector.load("SELECT * FROM t", frame="list") == [{"fare__usd_": 1, "_2nd": 2}]

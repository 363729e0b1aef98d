"""BigQuery by Mage's name: what an export takes beside the frame and the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.cloud import bigquery as google

from pipelines.io.errors import ConnectorError
from pipelines.mage.bigquery import BigQuery
from pipelines.mage.importing import mage_names
from pipelines.mage.places import Places
from pipelines.mage.profiles import ConfigFileLoader
from tests.parts.bigquery import BigQueryEmulator

ROWS = pd.DataFrame({"day": [date(2024, 1, 1), date(2024, 1, 2)], "shop": ["a", "b"]})


@pytest.fixture(autouse=True)
def root(tmp_path: Path) -> Iterator[None]:
    with mage_names(Places(tmp_path)):
        yield


@pytest.fixture
def dataset(bigquery: BigQueryEmulator) -> str:
    return f"fresh_{bigquery.number()}"


@pytest.fixture
def writer(bigquery: BigQueryEmulator) -> BigQuery:
    keys = {"GOOGLE_BIGQUERY_ENDPOINT": bigquery.endpoint, "GOOGLE_PROJECT_ID": bigquery.project}
    return BigQuery.with_config(ConfigFileLoader(config=keys))


def test_properties_of_the_load_job_are_passed_on(
    writer: BigQuery, bigquery: BigQueryEmulator, dataset: str
) -> None:
    writer.export(
        ROWS,
        f"{dataset}.t",
        clustering_fields=["shop"],
        time_partitioning=google.TimePartitioning(type_="MONTH", field="day"),
    )

    with closing(bigquery.client()) as client:
        (job,) = [
            job
            for job in client.list_jobs()
            if isinstance(job, google.LoadJob) and job.destination.dataset_id == dataset
        ]
    assert job.clustering_fields == ["shop"]
    assert job.time_partitioning is not None
    assert (job.time_partitioning.type_, job.time_partitioning.field) == ("MONTH", "day")


def test_write_disposition_counts_for_more_than_if_exists(writer: BigQuery, dataset: str) -> None:
    for _ in range(2):
        writer.export(ROWS, f"{dataset}.t", if_exists="replace", write_disposition="WRITE_APPEND")

    assert len(writer.load(f"SELECT * FROM `{dataset}.t`")) == 4


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"clustering": ["shop"]}, TypeError, "unknown keyword.* clustering"),
        ({"overwrite_types": {"shop": "STRING"}}, ConnectorError, "no overwrite_types .given for shop"),
        ({"write_disposition": "APPEND"}, ConnectorError, "'APPEND'; use one of WRITE_TRUNCATE, WRITE_APP"),
    ],
)
def test_what_an_export_does_not_know_is_refused_by_name(
    writer: BigQuery, dataset: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        writer.export(ROWS, f"{dataset}.t", **options)

"""Sessions: what SQL blocks do in BigQuery, job by job, each of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from google.cloud import bigquery

from pipelines.context import current_block
from pipelines.io.base import IfExists, Policy
from pipelines.io.bigquery.jobs import Jobs, rows_of
from pipelines.io.bigquery.names import Table
from pipelines.io.bigquery.orders import Order
from pipelines.io.bigquery.queries import bound, dry_run, limited, query_config, run_query
from pipelines.io.bigquery.reading import rows_of_query
from pipelines.io.bigquery.writing import (
    STAGE,
    check_target,
    existing_table,
    full_dataset,
    load_aside,
    make_aside,
    refuse_double_keys,
    refused,
    remove_aside,
    spooled,
    table_aside,
    write_rows_of,
)
from pipelines.io.errors import ConnectorError, QueryFailed


class Session:
    """One session of BigQuery, and the tables of frames that were made for it."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._session_id: str | None = None
        self._statements = 0
        self._staged: list[Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Remove the tables of frames; those that cannot be removed expire."""
        for table in self._staged:
            with suppress(ConnectorError), self._jobs.told():
                self._jobs.client.delete_table(_full(self._jobs, table), not_found_ok=True)

    def run(self, statement: str) -> int:
        """Run a statement once and return how many rows it touched."""
        self._statements += 1
        self._jobs.crash("effect.before_commit")
        job = run_query(self._jobs, f"statement{self._statements}", statement, self._config({}))
        self._jobs.crash("effect.after_commit")
        if job.session_info is not None:
            self._session_id = job.session_info.session_id
        return rows_of(job)

    def read(self, query: str, limit: int | None, binds: Mapping[str, Any]) -> Any:
        """Return the rows of a query as a frame."""
        reading = replace(self._jobs, effect=None)
        text = limited(bound(query, binds), limit)
        job = run_query(reading, "query", text, self._config(binds))
        return rows_of_query(reading, job, "pandas")

    def stage(self, name: str, data: Any) -> None:
        """Load a frame into a table of the dataset, which is removed with the session."""
        table = staged_table(self._jobs.settings.dataset, name)
        order = Order(table, Policy(IfExists.REPLACE), column_names="keep")
        with TemporaryDirectory(prefix="millrace-") as folder:
            rows = spooled(data, order, None, Path(folder, "rows.parquet"), index=False)
            self._staged.append(table)
            load_aside(self._jobs, rows, table, f"{STAGE}_{name}")

    def write_query(self, query: str, target: Table, policy: Policy, location: str | None) -> int:
        """Write the rows of a query into a table by one job, and return how many."""
        jobs = replace(self._jobs, location=location)
        order = Order(target, policy)
        done = jobs.finished("write")
        if done is not None:
            return _written(done)
        existing = existing_table(jobs, target)
        check_target(order, existing)
        try:
            if policy.if_exists is IfExists.MERGE:
                return _merge_query(jobs, query, order, existing)
            return _written(write_rows_of(jobs, query, (), order, existing))
        except QueryFailed as error:
            raise refused(order, error) from error

    def _config(self, binds: Mapping[str, Any]) -> bigquery.QueryJobConfig:
        """Return settings that make the session with its first statement, and then join it."""
        if self._session_id is not None:
            session = bigquery.ConnectionProperty("session_id", self._session_id)
            return query_config(self._jobs, binds, connection_properties=[session])
        if self._statements:
            return query_config(self._jobs, binds, create_session=True)
        return query_config(self._jobs, binds)


def staged_table(dataset: str, name: str) -> Table:
    """Return the table of a frame that the running block hands to SQL under that name."""
    if not dataset:
        raise ConnectorError(
            f"{name} is to be a table, and no dataset is named for it: give the block data_provider_schema, "
            "or the profile GOOGLE_BIGQUERY_DATASET"
        )
    context = current_block.get()
    owner = "" if context is None else f"{context.run_id}\0{context.block.name}"
    token = hashlib.sha256(owner.encode()).hexdigest()[:24]
    return Table(dataset, f"millrace_{token}_{name}")


def _merge_query(jobs: Jobs, query: str, order: Order, existing: bigquery.Table | None) -> int:
    aside = table_aside(jobs, order.target)
    make_aside(jobs, aside, dry_run(jobs, query, query_config(jobs)).schema or ())
    config = query_config(jobs, destination=_full(jobs, aside), write_disposition="WRITE_TRUNCATE")
    run_query(jobs, f"{STAGE}_{jobs.attempt}", query, config)
    jobs.crash("effect.staged")
    refuse_double_keys(jobs, aside, order)
    table = existing_table(jobs, aside)
    names = [field.name for field in table.schema] if table is not None else []
    job = write_rows_of(jobs, f"SELECT * FROM {aside.sql}", names, order, existing)
    remove_aside(jobs, order.target)
    return _written(job)


def _full(jobs: Jobs, table: Table) -> str:
    return f"{full_dataset(jobs, table)}.{table.name}"


def _written(job: bigquery.QueryJob) -> int:
    if job.statement_type == "MERGE":
        return rows_of(job)
    return int(job.result().total_rows or 0)

"""Queries: their values bound, their cost known before they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from google.cloud import bigquery

from pipelines.io.bigquery.jobs import Jobs
from pipelines.io.errors import QueryFailed
from pipelines.io.sqltext import bind, first_word, statements

_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (Decimal, "NUMERIC"),
    (str, "STRING"),
    (bytes, "BYTES"),
    (datetime, "DATETIME"),
    (date, "DATE"),
    (time, "TIME"),
)
# What may stand between BEGIN TRANSACTION and its end.
_OF_TRANSACTIONS = frozenset({"DELETE", "INSERT", "MERGE", "SELECT", "TRUNCATE", "UPDATE", "WITH"})
_PLACE = re.compile(r" at \[(?P<line>\d+):(?P<column>\d+)\]")
_DIGITS_OF_NUMERIC = 9  # after the point


def query_config(jobs: Jobs, binds: Mapping[str, Any] | None = None, **more: Any) -> bigquery.QueryJobConfig:
    """Return the settings of a query: labels, the values of `:name`, the dataset of bare names."""
    config = bigquery.QueryJobConfig(labels=jobs.labels(), use_legacy_sql=False, **more)
    if binds:
        config.query_parameters = [_parameter(name, value) for name, value in binds.items()]
    if jobs.settings.dataset:
        dataset = jobs.settings.dataset
        config.default_dataset = dataset if "." in dataset else f"{jobs.client.project}.{dataset}"
    return config


def bound(query: str, binds: Mapping[str, Any]) -> str:
    """Turn `:name` into BigQuery's `@name`."""
    return bind(query, binds, "@{}", percent="%")


def limited(query: str, limit: int | None) -> str:
    """Return a query that gives at most so many rows; statements that are no query stay as they are."""
    if limit is None or first_word(query) not in ("SELECT", "WITH", "FROM") or len(statements(query)) != 1:
        return query
    return f"SELECT * FROM ({statements(query)[0]}\n) LIMIT {int(limit)}"


def as_transaction(query: str) -> str:
    """Return several statements that only change rows as one transaction; others are taken as they are."""
    found = statements(query)
    if len(found) < 2 or any(first_word(statement) not in _OF_TRANSACTIONS for statement in found):
        return query
    return f"BEGIN TRANSACTION;\n{query.rstrip().rstrip(';')};\nCOMMIT TRANSACTION"


def touched(jobs: Jobs, job: bigquery.QueryJob) -> int:
    """Return how many rows the last statement of a job changed, or else returns."""
    if job.num_child_jobs:
        with jobs.told():
            children = list(jobs.client.list_jobs(parent_job=job))  # the last one first
        changed = (each.num_dml_affected_rows for each in children)
        return next((int(rows) for rows in changed if rows is not None), 0)
    if job.num_dml_affected_rows is not None:
        return int(job.num_dml_affected_rows)
    return int(job.result().total_rows or 0)


def run_query(
    jobs: Jobs,
    step: str,
    query: str,
    config: bigquery.QueryJobConfig,
    max_bytes_billed: int | None = None,
) -> bigquery.QueryJob:
    """Run a query once, unless it would read more than it may. Returns the job at its end."""
    limit = max_bytes_billed or jobs.settings.max_bytes_billed

    def start(name: str) -> bigquery.QueryJob:
        if limit is not None:
            check_cost(jobs, query, config, limit)
            config.maximum_bytes_billed = limit
        return jobs.client.query(query, config, job_id=name, location=jobs.location, job_retry=None)

    with placed(query):
        job: bigquery.QueryJob = jobs.run(step, start)
    return job


def check_cost(jobs: Jobs, query: str, config: bigquery.QueryJobConfig, limit: int) -> None:
    """Raise QueryFailed when a dry run says that the query would read more bytes than the limit."""
    estimate = int(dry_run(jobs, query, config).total_bytes_processed or 0)
    if estimate > limit:
        raise QueryFailed(
            f"the query would read {_size(estimate)}, and may read {_size(limit)}: it was not run. "
            "Read fewer columns or partitions, or raise max_bytes_billed "
            "(GOOGLE_BIGQUERY_MAX_BYTES_BILLED in the profile)"
        )


def dry_run(jobs: Jobs, query: str, config: bigquery.QueryJobConfig) -> bigquery.QueryJob:
    """Ask what a query would read and give, without running it."""
    dry: Any = bigquery.QueryJobConfig.from_api_repr(config.to_api_repr())
    dry.dry_run, dry.use_query_cache = True, False
    with placed(query), jobs.told():
        return jobs.client.query(query, dry, location=jobs.location, job_retry=None)


@contextmanager
def placed(query: str) -> Iterator[None]:
    """Tell of an error where in the query it is: BigQuery ends its sentence by `at [line:column]`."""
    try:
        yield
    except QueryFailed as error:
        place = _PLACE.search(str(error))
        if place is not None and error.statement is None:
            before = query.splitlines(keepends=True)[: int(place["line"]) - 1]
            error.statement, error.offset = query, sum(map(len, before)) + int(place["column"]) - 1
        raise


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.4g} {unit}"
        amount /= 1000
    return f"{amount:.4g} TB"


def _parameter(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        return _array(name, list(value))
    return bigquery.ScalarQueryParameter(name, _type_of(name, value), value)


def _array(name: str, values: Sequence[Any]) -> Any:
    kinds = {_type_of(name, value) for value in values if value is not None}
    if len(kinds) > 1:
        raise QueryFailed(f"the values of :{name} are of {', '.join(sorted(kinds))}; give them one type")
    return bigquery.ArrayQueryParameter(name, kinds.pop() if kinds else "STRING", values)


def _type_of(name: str, value: Any) -> str:
    if value is None:
        return "STRING"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "TIMESTAMP"
    if isinstance(value, Decimal) and -int(value.as_tuple().exponent or 0) > _DIGITS_OF_NUMERIC:
        return "BIGNUMERIC"
    for kind, found in _TYPES:
        if isinstance(value, kind):
            return found
    raise QueryFailed(f":{name} is a {type(value).__name__}, which a query does not take as a value")

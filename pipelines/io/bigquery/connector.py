"""The BigQuery connector."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.io.base import Policy, without_mage_keywords
from pipelines.io.bigquery.jobs import Jobs, rows_of
from pipelines.io.bigquery.names import Table, quoted, table_of
from pipelines.io.bigquery.orders import Layout, Order, check_job_options
from pipelines.io.bigquery.queries import (
    as_transaction,
    bound,
    limited,
    query_config,
    run_query,
    touched,
)
from pipelines.io.bigquery.reading import batches_of_query, rows_of_query
from pipelines.io.bigquery.sessions import Session, staged_table
from pipelines.io.bigquery.settings import BigQuerySettings
from pipelines.io.bigquery.writing import WRITE, existing_table, full_dataset, remove_aside, write_frame
from pipelines.io.config import ProfileError
from pipelines.io.effects import Effect
from pipelines.io.sqlconnector import SqlConnector, bound_values
from pipelines.io.sqltext import Relation, escaped_literal

if TYPE_CHECKING:
    from pipelines.io.config import Profile


class BigQuery(SqlConnector):
    """Loads from and exports to BigQuery: by load jobs from Parquet, and each job of a block once.

    Tables are named `dataset.table`, `project.dataset.table`, or with GOOGLE_BIGQUERY_DATASET by their name
    alone. Profile, all optional: GOOGLE_SERVICE_ACC_KEY or GOOGLE_SERVICE_ACC_KEY_FILEPATH (without them the
    machine's default credentials), GOOGLE_PROJECT_ID, GOOGLE_LOCATION (of datasets that are made),
    GOOGLE_BIGQUERY_DATASET, GOOGLE_BIGQUERY_MAX_BYTES_BILLED (by one query), GOOGLE_BIGQUERY_ENDPOINT.
    """

    name: ClassVar[str] = "bigquery"

    def __init__(self, settings: BigQuerySettings) -> None:
        self._settings = settings
        self._client: bigquery.Client | None = None
        self._keeps = False

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(BigQuerySettings.of(profile))

    @property
    def glot(self) -> str:
        return "bigquery"

    @property
    def schema(self) -> str:
        return self._settings.dataset

    def literal(self, text: str) -> str:
        return escaped_literal(text)

    def load(
        self,
        query: str,
        limit: int | None = None,
        frame: str = "pandas",
        max_bytes_billed: int | None = None,
        **binds: Any,
    ) -> Any:
        """Return the rows of a query as the kind of frame asked for; `:name` takes the value of that keyword.

        NUMERIC comes as Decimal, DATETIME without a zone, TIMESTAMP in UTC, JSON, arrays and structs as
        Python values. A query that would read more than `max_bytes_billed` is not run.
        """
        with self._connected() as client:
            jobs = self._jobs(client)
            return rows_of_query(jobs, self._query(jobs, query, limit, max_bytes_billed, binds), frame)

    def stream(
        self, query: str, limit: int | None = None, max_bytes_billed: int | None = None, **binds: Any
    ) -> pa.RecordBatchReader:
        """Return the rows of a query as Arrow batches, for one pass in bounded memory."""
        client = _opened(self._settings)  # of the reader's own, which is closed with it
        jobs = self._jobs(client)
        reader = batches_of_query(jobs, self._query(jobs, query, limit, max_bytes_billed, binds))
        weakref.finalize(reader, client.close)
        return reader

    def export(
        self,
        df: Any,
        schema_name: str | None = None,
        table_name: str | None = None,
        if_exists: str = "replace",
        keys: str | list[str] | tuple[str, ...] | None = None,
        index: bool = False,
        unique_constraints: str | list[str] | tuple[str, ...] | None = None,
        unique_conflict_method: str | None = None,
        column_names: str = "keep",
        schema_update_options: tuple[str, ...] | list[str] = (),
        max_bytes_billed: int | None = None,
        **options: Any,
    ) -> int:
        """Write a frame, or streamed data, into a table, all or nothing, and return its rows.

        Dataset and table are made when they are absent. `partition_by`, `partition_period`,
        `partition_range`, `partition_expiration_days`, `require_partition_filter` and `cluster_by` lay a new
        table out;
        `schema_update_options` lets an append change the columns; `column_names="clean"` renames those that
        BigQuery does not take. Further options are properties of the load job.
        """
        target = table_of(schema_name, table_name, self._settings.dataset)
        policy = Policy.of(
            if_exists,
            keys=keys,
            unique_constraints=unique_constraints,
            unique_conflict_method=unique_conflict_method,
        ).of_next_write(f"bigquery:{target}")
        given = without_mage_keywords(options)
        layout = Layout.of(given)
        check_job_options(given)
        order = Order(
            target, policy, layout, column_names, tuple(schema_update_options), max_bytes_billed, given
        )
        effect = Effect.next(f"bigquery:{target}")
        with self._connected() as client:
            jobs = Jobs(client, self._settings, self._location(client, target), effect)
            rows = _written_once(jobs, order, lambda: write_frame(jobs, df, order, index=index))
        if effect is not None:
            effect.context.effects.wrote(rows)
        return rows

    def execute(self, query: str, max_bytes_billed: int | None = None, **binds: Any) -> int:
        """Run one or more statements as one job and return how many rows the last one touched.

        Statements that only change rows are one transaction; with others among them, such as CREATE, which
        BigQuery takes in no transaction, what came before a failure stays.
        """
        with self._connected() as client:
            jobs = self._jobs(client)
            job = self._query(jobs, as_transaction(query), None, max_bytes_billed, binds)
            return touched(jobs, job)

    def client(self) -> bigquery.Client:
        """Return a client of Google's own library, who asks where and as whom we do; its user closes it."""
        return _opened(self._settings)

    def exists(self, schema_name: str, table_name: str | None = None) -> bool:
        """Tell whether there is such a table: `exists("dataset.table")` or `exists("dataset", "table")`."""
        target = table_of(schema_name, table_name, self._settings.dataset)
        with self._connected() as client:
            return existing_table(self._jobs(client), target) is not None

    def in_schema(self, schema: str | None) -> Self:
        """Return a connector for which tables without a dataset lie in that one."""
        return type(self)(replace(self._settings, dataset=schema)) if schema else self

    def quoted(self, *names: str) -> str:
        return ".".join(quoted(name) for name in names if name)

    def table_sql(self, relation: Relation) -> str:
        return Table(relation.schema, relation.name).sql

    def staged_sql(self, name: str) -> str:
        return staged_table(self._settings.dataset, name).sql

    def relation(self, schema: str | None, table: str | None) -> Table:
        return table_of(schema, table, self._settings.dataset)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session of BigQuery: its temporary tables and variables last as long as it does."""
        with self._connected() as client, Session(self._jobs(client)) as session:
            yield session

    def write_once(self, target: str, write: Callable[[Session], int]) -> int:
        """Run `write` with a session each of whose jobs runs once, however often the block is tried.

        BigQuery has no transaction over several jobs: what the first of them wrote stays when a later one
        fails, and the next try goes on after it.
        """
        effect = Effect.next(f"bigquery:{target}")
        with self._connected() as client:
            jobs = Jobs(client, self._settings, self._home(client), effect)
            with Session(jobs) as session:
                rows = write(session)
        if effect is not None:
            effect.context.effects.wrote(rows)
        return rows

    def read(self, session: Session, query: str, *, limit: int | None = None, **binds: Any) -> Any:
        return session.read(query, limit, binds)

    def run(self, session: Session, statement: str) -> int:
        return session.run(statement)

    def stage(self, session: Session, name: str, data: Any) -> None:
        session.stage(name, data)

    def write_query(self, session: Session, query: str, target: Any, policy: Policy) -> int:
        with self._connected() as client:
            location = self._location(client, target)
        return session.write_query(query, target, policy, location)

    def close(self) -> None:
        client, self._client = self._client, None
        self._keeps = False
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        self._keeps = True
        return self

    def _query(
        self,
        jobs: Jobs,
        query: str,
        limit: int | None,
        max_bytes_billed: int | None,
        binds: Mapping[str, Any],
    ) -> bigquery.QueryJob:
        values = bound_values(dict(binds))
        text = limited(bound(query, values), limit)
        return run_query(jobs, "query", text, query_config(jobs, values), max_bytes_billed)

    def _jobs(self, client: bigquery.Client) -> Jobs:
        return Jobs(client, self._settings, self._settings.location, None)

    def _home(self, client: bigquery.Client) -> str | None:
        """Return where jobs run that name no target: their ids are known only there.

        The dataset of bare names is made when it is not there: tables of frames go into it.
        """
        if not self._settings.dataset:
            return self._settings.location
        return self._location(client, Table(self._settings.dataset, ""))

    def _location(self, client: bigquery.Client, target: Table) -> str | None:
        """Return where the target's dataset is, which is made when it is not there."""
        jobs = self._jobs(client)
        name = full_dataset(jobs, target)
        with jobs.told():
            try:
                found = client.get_dataset(name)
            except exceptions.NotFound:
                wanted = bigquery.Dataset(name)
                wanted.location = self._settings.location
                found = client.create_dataset(wanted, exists_ok=True)
        return str(found.location) if found.location else None

    @contextmanager
    def _connected(self) -> Iterator[bigquery.Client]:
        if self._client is None:
            self._client = _opened(self._settings)
        try:
            yield self._client
        finally:
            if not self._keeps:
                self.close()


def _opened(settings: BigQuerySettings) -> bigquery.Client:
    google = settings.google
    credentials, project = google.credentials()
    if project is None:  # Google's client would look for other credentials
        raise ProfileError(f"profile {google.profile!r} names no project for BigQuery; add GOOGLE_PROJECT_ID")
    options = {"api_endpoint": google.endpoint} if google.endpoint else None
    return bigquery.Client(project=project, credentials=credentials, client_options=options)


def _written_once(jobs: Jobs, order: Order, write: Callable[[], int]) -> int:
    """Write, unless an earlier attempt did; then remove what it may have left aside."""
    done = jobs.finished(WRITE)
    if done is None:
        return write()
    rows = rows_of(done)
    if jobs.effect is not None:
        jobs.effect.found(rows)
    remove_aside(jobs, order.target)
    return rows

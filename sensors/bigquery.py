"""The `bigquery` sensor: a table that changes, or the rows that a query finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from sensors.base import (
    PAGE_SIZE,
    Cursor,
    ExistingRule,
    Options,
    Page,
    Sensor,
    SensorError,
    TickContext,
    pages_of,
)
from sensors.digests import digest
from sensors.event import Event, bounded_key
from sensors.google import (
    READ_SECONDS,
    GoogleOptions,
    Missing,
    briefly,
    client_options,
    credentials_of,
    told_plainly,
)
from sensors.moments import moment_of
from sensors.plain import plain

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, QueryJob, QueryJobConfig, Row, Table

GIBIBYTE = 1024**3
MAX_LABEL_CHARACTERS = 63  # BigQuery's own bound
WITHOUT_STATE = ("VIEW", "EXTERNAL")  # the service does not know when their rows change
LEGACY_NAMES: Mapping[str, str] = {"INTEGER": "INT64", "FLOAT": "FLOAT64"}  # of types, in a result's schema


class BigQueryOptions(GoogleOptions):
    project: str | None = Field(
        default=None, description="where queries run and are paid for; default: that of the credentials"
    )
    location: str | None = Field(default=None, description="where queries run, such as EU")
    table: str | None = Field(
        default=None,
        pattern=r"^([a-z][a-z0-9.:-]*\.)?\w+\.[^.`]+$",
        description="dataset.table or project.dataset.table: every change of it is an event",
    )
    query: str | None = Field(
        default=None, min_length=1, description="a SELECT: every row of it is an event, once; may use @cursor"
    )
    key: tuple[str, ...] = Field(
        default=(), description="the columns that tell rows apart; default: all of them"
    )
    cursor: str | None = Field(
        default=None,
        description="a column: the greatest value seen is @cursor of the next tick (NULL at first)",
    )
    cursor_type: Literal["TIMESTAMP", "DATETIME", "DATE", "INT64", "NUMERIC", "FLOAT64", "STRING"] = Field(
        default="TIMESTAMP", description="the type of the cursor column"
    )
    time: str | None = Field(
        default=None, description="the column that is event.time; default: the cursor, where it is a time"
    )
    maximum_bytes_billed: int = Field(
        default=GIBIBYTE, gt=0, description="a query that would read more is not run"
    )
    timeout: float = Field(default=60, gt=0, le=3600, description="seconds for the query")

    @model_validator(mode="after")
    def _watches_one_thing(self) -> BigQueryOptions:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either table or query")
        of_query = {"key", "cursor", "cursor_type", "time", "maximum_bytes_billed", "timeout", "location"}
        if self.table is not None and (stray := of_query & self.model_fields_set):
            raise ValueError(f"{', '.join(sorted(stray))}: only a query has that")
        return self

    @property
    def time_column(self) -> str | None:
        is_time = self.cursor_type in ("TIMESTAMP", "DATETIME", "DATE")
        return self.time or (self.cursor if is_time else None)

    def fit(self, columns: Mapping[str, str]) -> None:
        """Raise SensorError where the query's columns, with their types, are not those that are named."""
        named = {*self.key, *filter(None, (self.cursor, self.time))}
        if lacking := sorted(named - columns.keys()):
            raise SensorError(
                f"the query has no column {', '.join(lacking)}; it has {', '.join(columns)}; mend the options"
            )
        if self.cursor is None:
            return
        kind = LEGACY_NAMES.get(columns[self.cursor], columns[self.cursor])
        if kind != self.cursor_type:
            raise SensorError(
                f"the column {self.cursor} is {kind}, and not {self.cursor_type}; say cursor_type: {kind}"
            )


@dataclass(frozen=True, slots=True)
class _Memory:
    """The cursor. `first_job` stands while the first look is not yet committed to its end: the service keeps
    the rows of a query for a day, so that a repeat after a crash sees what was there then, and only that.
    """

    value: str | None = None  # the query's @cursor
    state: str | None = None  # of the table
    first_job: str | None = None

    @classmethod
    def parse(cls, cursor: Cursor) -> _Memory:
        return cls() if cursor is None else cls(**json.loads(cursor))

    def text(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})


class BigQuerySensor(Sensor[BigQueryOptions]):
    """Reports each state of a table, or each row of a query, once."""

    name: ClassVar[str] = "bigquery"
    options_model: ClassVar[type[Options]] = BigQueryOptions
    apart: ClassVar[bool] = True

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        with closing(self._client(context)) as client:
            if self.options.query is None:
                yield from self._look_at_table(client, str(self.options.table), cursor, context)
            else:
                yield from self._ask(client, self.options.query, cursor, context)

    def _look_at_table(
        self, client: Client, name: str, cursor: Cursor, context: TickContext
    ) -> Iterator[Page]:
        try:
            with self._told_plainly():
                table = client.get_table(name, retry=briefly(), timeout=READ_SECONDS)
        except Missing:
            if cursor is None:  # what was not there at first sight is news when it comes
                yield Page((), _Memory().text())
            raise
        if table.table_type in WITHOUT_STATE:
            raise SensorError(
                f"{self._what} is of the kind {table.table_type}, and BigQuery does not tell when its rows "
                "change; watch the table below it, or use query"
            )
        event = _table_event(table, context)
        if event.key == _Memory.parse(cursor).state:
            return
        final = _Memory(state=event.key).text()
        if cursor is None and context.existing.makes_baseline(event.time):
            yield Page((), final, baseline=(event,))
        else:
            yield Page((event,), final)

    def _ask(self, client: Client, query: str, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        if context.existing.rule is ExistingRule.SINCE and self.options.time_column is None:
            raise SensorError("existing: since goes by the time of each row; name its column with 'time'")
        memory = _Memory.parse(cursor)
        first = self._first_look(client, memory)
        if first is not None:
            yield from self._handed_over(first, context)
            memory = first.after
        is_first = first is None and (cursor is None or memory.first_job is not None)
        with self._told_plainly():
            job = self._started(client, query, memory, context)
        if is_first:
            memory = replace(memory, first_job=f"{job.location}/{job.job_id}")
        yield from self._handed_over(_Look(self.options, job, memory, is_first=is_first), context)

    def _first_look(self, client: Client, memory: _Memory) -> _Look | None:
        """Return the first look that was cut short, for as long as the service keeps its rows."""
        if memory.first_job is None:
            return None
        location, _, job_id = memory.first_job.partition("/")
        try:
            with self._told_plainly():
                job: Any = client.get_job(job_id, location=location, retry=briefly(), timeout=READ_SECONDS)
        except Missing:
            return None
        return _Look(self.options, job, memory, is_first=True)

    def _handed_over(self, look: _Look, context: TickContext) -> Iterator[Page]:
        pages = look.pages(context)
        while True:
            with self._told_plainly():
                page = next(pages, None)
            if page is None:
                return
            yield page

    def _started(self, client: Client, query: str, memory: _Memory, context: TickContext) -> QueryJob:
        """Start the query, once it is known to read only, and not too much."""
        dry = client.query(query, self._config(memory, context, is_dry=True), **_once())
        if dry.statement_type != "SELECT":
            raise SensorError(f"the query is a {dry.statement_type}; a sensor only reads: write one SELECT")
        if dry.total_bytes_processed > self.options.maximum_bytes_billed:
            raise SensorError(
                f"the query would read {dry.total_bytes_processed:,} bytes, and maximum_bytes_billed is "
                f"{self.options.maximum_bytes_billed:,}; let it read less, such as by @cursor on a "
                "partitioned column, or raise the limit"
            )
        return client.query(query, self._config(memory, context), **_once())

    def _config(self, memory: _Memory, context: TickContext, *, is_dry: bool = False) -> QueryJobConfig:
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        label = re.sub(r"[^a-z0-9_-]", "-", context.source.lower())[:MAX_LABEL_CHARACTERS]
        config = QueryJobConfig(
            dry_run=is_dry,
            use_query_cache=not is_dry,  # a cached answer would be said to read nothing
            labels={"millrace": "sensor", "millrace_trigger": label},
            maximum_bytes_billed=self.options.maximum_bytes_billed,
            job_timeout_ms=int(self.options.timeout * 1000),
        )
        if self.options.cursor is not None:
            config.query_parameters = [ScalarQueryParameter("cursor", self.options.cursor_type, memory.value)]
        return config

    def _client(self, context: TickContext) -> Client:
        from google.cloud.bigquery import Client

        with self._told_plainly():
            credentials = credentials_of(self.options, context)
            project = self.options.project or getattr(credentials, "project_id", None)
            unnamed = SensorError("no project is known to run queries in; say 'project'")
            if project is None and credentials is not None:
                raise unnamed
            try:
                return Client(
                    project=project,
                    credentials=credentials,
                    location=self.options.location,
                    client_options=client_options(self.options),
                )
            except OSError:  # the default credentials name none either
                raise unnamed from None

    @property
    def _what(self) -> str:
        return "the query" if self.options.table is None else f"the table {self.options.table}"

    def _told_plainly(self) -> AbstractContextManager[None]:
        if self.options.table is None:
            return told_plainly(
                "what the query reads",
                missing="mend 'query' in the trigger's options",
                forbidden="grant roles/bigquery.jobUser on the project, and roles/bigquery.dataViewer on "
                "what is read, to the service account of the tick",
            )
        return told_plainly(
            self._what,
            missing="mend 'table' in the trigger's options, or wait until it is made",
            forbidden="grant roles/bigquery.metadataViewer on it to the service account of the tick",
        )


class _Look:
    """One look at the rows of a query's job."""

    def __init__(self, options: BigQueryOptions, job: QueryJob, during: _Memory, *, is_first: bool) -> None:
        self._options = options
        self._job = job
        self._during = during
        self._is_first = is_first
        self._highest: Any = None

    @property
    def after(self) -> _Memory:
        """The memory once all rows are committed."""
        return _Memory(self._during.value if self._highest is None else str(plain(self._highest)))

    def pages(self, context: TickContext) -> Iterator[Page]:
        events = self._events(context)
        for page in pages_of(events, during=self._during.text(), final=None):
            if page.cursor is not None:
                yield page
            elif page.events or page.baseline or self.after != self._during:
                yield replace(page, cursor=self.after.text())

    def _events(self, context: TickContext) -> Iterator[tuple[Event, bool]]:
        for row in self._rows(context):
            if self._options.cursor is not None:
                self._see(row[self._options.cursor])
            event = _row_event(row, self._options, context)
            yield event, self._is_first and context.existing.makes_baseline(event.time)

    def _rows(self, context: TickContext) -> Iterator[Row]:
        try:
            rows = self._job.result(page_size=PAGE_SIZE, timeout=self._options.timeout, **_once())
        except TimeoutError:
            self._job.cancel(**_once(job_retry=False))
            raise SensorError(
                f"the query took more than {self._options.timeout:g} s; make it read less, or raise 'timeout'"
            ) from None
        self._options.fit({field.name: field.field_type for field in rows.schema})
        for page in rows.pages:
            if context.is_stopping():
                raise SensorError("the engine is stopping; the tick goes on after the next start")
            yield from page

    def _see(self, value: Any) -> None:
        if value is not None and (self._highest is None or value > self._highest):
            self._highest = value


def _once(*, job_retry: bool = True) -> dict[str, Any]:
    """Return how requests are made: each tried again for a moment, the query itself never."""
    return {"retry": briefly()} | ({"job_retry": None} if job_retry else {})


def _row_event(row: Row, options: BigQueryOptions, context: TickContext) -> Event:
    data = {str(name): _plain(value) for name, value in row.items()}
    name = json.dumps([data[column] for column in options.key]) if options.key else None
    time = moment_of(row[options.time_column]) if options.time_column is not None else None
    return Event(
        source=context.source,
        key=bounded_key(f"key:{name}") if name else f"sha256:{digest(data)}",
        type="bigquery.row",
        time=time or context.now,
        subject=name and bounded_key(name),
        data=data,
    )


def _table_event(table: Table, context: TickContext) -> Event:
    name = f"{table.project}.{table.dataset_id}.{table.table_id}"
    changed = int(table.modified.timestamp() * 1000)
    return Event(
        source=context.source,
        key=f"{name}#{changed}:{table.num_rows}:{table.num_bytes}",
        type="bigquery.table",
        time=table.modified,
        subject=name,
        data={
            "table": name,
            "project": table.project,
            "dataset": table.dataset_id,
            "name": table.table_id,
            "rows": table.num_rows,
            "bytes": table.num_bytes,
            "created": plain(table.created),
            "modified": plain(table.modified),
            "etag": table.etag,
        },
    )


def _plain(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:  # an INTERVAL, or a kind that is newer than this
        return str(value)

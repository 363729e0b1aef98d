"""The `sql` sensor: rows that a query finds, in Postgres, SQLite or DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from sensors.base import Cursor, ExistingRule, Options, Page, Sensor, SensorError, TickContext, pages_of
from sensors.digests import digest
from sensors.event import Event
from sensors.first_sight import FirstSight
from sensors.moments import moment_of, seconds_of
from sensors.plain import plain
from sensors.sql_databases import Database, Row, System, database_of, database_of_profile, names_in
from sensors.watermark import Watermark, stamp_json, stamp_of

MAX_KEY_CHARACTERS = 300  # longer ones are hashed
CURSOR = "cursor"  # the parameter that holds where a reading begins
_OLD = "millrace_was_there"
_UNTIL = "millrace_until"


class SqlOptions(Options):
    profile: str | None = Field(default=None, description="profile of io_config.yaml with the connection")
    system: System | None = Field(default=None, description="where a profile has both: postgres or duckdb")
    url: str | None = Field(
        default=None,
        pattern="^(postgres(ql)?|sqlite|duckdb)(\\+[a-z0-9]+)?://",
        repr=False,
        description="instead of a profile: postgresql://, sqlite:///path or duckdb:///path",
    )
    query: str = Field(min_length=1, description="a SELECT; every row of it is an event, once")
    parameters: Mapping[str, Any] = Field(
        default_factory=dict, repr=False, description="values of the :names in the query"
    )
    key: tuple[str, ...] = Field(
        default=(),
        description="the columns that name a row for ever; without it, a row that changes is a new event",
    )
    cursor: str | None = Field(
        default=None, description="a column that grows, such as updated_at: only what is new is read"
    )
    time: str | None = Field(
        default=None, description="the column that is event.time; default: `cursor`, where it is a time"
    )
    late: timedelta = Field(
        default=timedelta(hours=1), description="how much later than others of its stamp a row may appear"
    )
    sweep: timedelta | None = Field(
        default=timedelta(days=1),
        description="how often everything is read, for rows that come later still; or off",
    )
    timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds for one query")
    max_rows: int = Field(
        default=10_000,
        ge=1,
        le=200_000,
        description="rows of one query; with `cursor` a tick makes as many queries as it needs",
    )

    @field_validator("key", mode="before")
    @classmethod
    def _may_be_one_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("late", "sweep", mode="before")
    @classmethod
    def _is_a_span(cls, value: Any) -> Any:
        if value is None or value == "off" or value is False:
            return None
        return value if isinstance(value, timedelta) else timedelta(seconds=seconds_of(value))

    @field_validator("query")
    @classmethod
    def _has_no_end(cls, value: str) -> str:
        return value.strip().rstrip(";")

    @model_validator(mode="after")
    def _has_one_connection(self) -> SqlOptions:
        if (self.profile is None) == (self.url is None):
            raise ValueError("give either `profile` or `url`")
        if CURSOR in self.parameters:
            raise ValueError("the parameter :cursor is the sensor's own; call yours otherwise")
        if self.cursor is None and CURSOR in names_in(self.query):
            raise ValueError("the query names :cursor; name its column by `cursor`")
        return self


@dataclass(frozen=True, slots=True)
class _Memory:
    """The sensor's cursor: what was read, and a first sight that is not yet committed to its end."""

    watermark: Watermark = field(default_factory=Watermark)
    content: str | None = None  # of the whole result, where there is no watermark
    first: FirstSight | None = None  # the same: what was there
    until: tuple[Any] | None = None  # with a watermark: the highest stamp that was there

    @classmethod
    def parse(cls, cursor: Cursor) -> _Memory:
        if cursor is None:
            return cls()
        stored = json.loads(cursor)
        first, until = stored.get("first"), stored.get("until")
        return cls(
            watermark=Watermark.from_json(stored["watermark"]),
            content=stored.get("content"),
            first=None if first is None else FirstSight.parse(first),
            until=None if until is None else (stamp_of(until[0]),),
        )

    def text(self) -> str:
        stored: dict[str, Any] = {"watermark": self.watermark.as_json(), "content": self.content}
        if self.first is not None:
            stored["first"] = self.first.text()
        if self.until is not None:
            stored["until"] = [stamp_json(self.until[0])]
        return json.dumps(stored)


class SqlSensor(Sensor[SqlOptions]):
    """Reports every row once, by its key.

    Without `cursor` each tick reads the whole result. With it a tick reads what is not certainly known, see
    `sensors.watermark`.
    """

    name: ClassVar[str] = "sql"
    options_model: ClassVar[type[Options]] = SqlOptions
    apart: ClassVar[bool] = True

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        is_first = cursor is None and context.existing.rule is not ExistingRule.TRIGGER
        reader = _Reader(self.options, self._database(context))
        memory = _Memory.parse(cursor)
        if self.options.cursor is None:
            yield from self._all_rows(reader, memory, context, is_first=is_first)
            return
        if is_first:
            memory = replace(memory, until=(reader.highest(),))
        yield from self._new_rows(reader, memory, context)

    def _database(self, context: TickContext) -> Database:
        options = self.options
        if options.url is not None:
            return database_of(options.url, context.root, options.timeout)
        name = str(options.profile)
        return database_of_profile(name, context.profile(name), options.system, context.root, options.timeout)

    def _all_rows(
        self, reader: _Reader, memory: _Memory, context: TickContext, *, is_first: bool
    ) -> Iterator[Page]:
        """Read the result as a whole."""
        rows = reader.rows()
        if len(rows) > self.options.max_rows:
            raise SensorError(
                f"the query has more than {self.options.max_rows:,} rows; name a column that grows by "
                "`cursor`, narrow the query, or raise `max_rows`"
            )
        events = self._events(rows, context)
        content = digest(sorted(events))
        if content == memory.content:
            return
        first = FirstSight.of(events) if is_first else memory.first

        def was_there(event: Event) -> bool:
            return first is not None and event.key in first and context.existing.makes_baseline(event.time)

        yield from pages_of(
            ((event, was_there(event)) for event in events.values()),
            during=replace(memory, first=first).text(),
            final=_Memory(content=content).text(),
        )

    def _new_rows(self, reader: _Reader, memory: _Memory, context: TickContext) -> Iterator[Page]:
        """Read on in steps of `max_rows` until there is no more."""
        late = self.options.late
        highest: Any = None
        before: Set[str] = frozenset()
        memory = replace(
            memory, watermark=memory.watermark.begin(context.now, late=late, sweep=self.options.sweep)
        )
        while True:
            step = reader.step(memory)
            highest = step.last if step.last is not None else highest
            if step.has_more:
                after = replace(memory, watermark=memory.watermark.go_on(step.last))
            else:
                after = _Memory(watermark=memory.watermark.end(context.now, highest, late))
            old = self._events(step.old, context)
            new = self._events(step.new, context)
            pairs = [(event, context.existing.makes_baseline(event.time)) for event in old.values()]
            pairs += [(event, False) for event in new.values()]
            # The next step begins at the last stamp of this one, and so with some of its rows.
            pairs = [(event, is_baseline) for event, is_baseline in pairs if event.key not in before]
            before = old.keys() | new.keys()
            yield from pages_of(iter(pairs), during=memory.text(), final=after.text())
            if not step.has_more or context.is_stopping():
                return
            memory = after

    def _events(self, rows: list[Row], context: TickContext) -> dict[str, Event]:
        """Return an event for each row, by key: rows that are the same in all are one."""
        events = (self._event(row, context) for row in rows)
        return {event.key: event for event in events}

    def _event(self, row: Row, context: TickContext) -> Event:
        data = plain(row)
        name = self._name(data)
        return Event(
            source=context.source,
            key=f"sha256:{digest(data)}" if name is None else name,
            type="sql.row",
            time=self._time(row, context),
            subject=name,
            data=data,
        )

    def _name(self, data: Mapping[str, Any]) -> str | None:
        if not self.options.key:
            return None
        values = [_column(data, column, "key") for column in self.options.key]
        is_simple = len(values) == 1 and isinstance(values[0], str | int)
        text = str(values[0]) if is_simple else json.dumps(values)
        return text if len(text) <= MAX_KEY_CHARACTERS else f"sha256:{digest(values)}"

    def _time(self, row: Row, context: TickContext) -> datetime:
        if self.options.time is not None:
            value = _column(row, self.options.time, "time")
            found = moment_of(value)
            if value is not None and found is None:
                raise SensorError(f"the column {self.options.time} holds {value!r}, which is no time")
            return found or context.now
        stamp = row.get(self.options.cursor) if self.options.cursor else None
        is_time = isinstance(stamp, date | str)  # SQLite has times as text
        return (moment_of(stamp) if is_time else None) or context.now


@dataclass(frozen=True, slots=True)
class _Step:
    """Rows of one query by watermark, in the order of their stamps."""

    old: list[Row]  # there at first sight
    new: list[Row]
    last: Any  # the highest stamp
    has_more: bool


class _Reader:
    """Wraps the query, so that it is read from a stamp on, in order, and not further than `max_rows`."""

    def __init__(self, options: SqlOptions, database: Database) -> None:
        self._options = options
        self._database = database
        self._column = "q." + _quoted(options.cursor or "")
        self._limit = f"LIMIT {options.max_rows + 1}"

    def rows(self) -> list[Row]:
        return self._read("q.*", self._limit)

    def highest(self) -> Any:
        """Return the highest stamp there is; None when there are no rows."""
        column = self._column
        order = f"WHERE {column} IS NOT NULL ORDER BY {column} DESC LIMIT 1"
        rows = self._read(f"{column} AS {_OLD}", order)
        return rows[0][_OLD] if rows else None

    def step(self, memory: _Memory) -> _Step:
        """Read from where the watermark's reading stands. Raises SensorError where that cannot get on."""
        start = memory.watermark.reading[0] if memory.watermark.reading else None
        columns, tail = "q.*", f"ORDER BY {self._column} {self._limit}"
        bound = {CURSOR: start}
        if start is not None:
            tail = f"WHERE {self._column} >= :{CURSOR} OR {self._column} IS NULL {tail}"
        if memory.until is not None:
            is_later = f"({self._column} > :{_UNTIL} OR (:{_UNTIL} IS NULL AND {self._column} IS NOT NULL))"
            columns += f", CASE WHEN {is_later} THEN 0 ELSE 1 END AS {_OLD}"
            bound[_UNTIL] = memory.until[0]
        found = self._read(columns, tail, bound)
        rows = found[: self._options.max_rows]
        has_more = len(found) > len(rows)
        last = self._last(rows)
        if has_more and (last is None or last == start):
            raise SensorError(
                f"more than {self._options.max_rows:,} rows have the same {self._options.cursor}, "
                f"{plain(last)}; raise `max_rows` in the trigger's options"
            )
        old = [row for row in rows if row.get(_OLD) == 1]
        new = [row for row in rows if row.get(_OLD) != 1]
        return _Step(_without_mark(old), _without_mark(new), last, has_more)

    def _last(self, rows: list[Row]) -> Any:
        stamps = (_column(row, str(self._options.cursor), "cursor") for row in reversed(rows))
        last = next((stamp for stamp in stamps if stamp is not None), None)
        try:
            stamp_json(last)
        except TypeError as error:
            raise SensorError(f"the column {self._options.cursor}: {error}") from None
        return last

    def _read(self, columns: str, tail: str, bound: Mapping[str, Any] | None = None) -> list[Row]:
        # The end of the query on a line of its own: it may be in a comment.
        text = f"SELECT {columns} FROM (\n{self._options.query}\n) AS q {tail}"
        return self._database.rows(text, {CURSOR: None, **self._options.parameters, **(bound or {})})


def _without_mark(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != _OLD} for row in rows]


def _column(row: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in row:
        raise SensorError(
            f"the query has no column {name!r}, which `{option}` names; it has: {', '.join(row)}"
        )
    return row[name]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

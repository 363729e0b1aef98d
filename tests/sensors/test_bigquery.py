"""What is peculiar to the `bigquery` sensor; the contract of all sensors is in test_conformance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sensors.base import Existing, ExistingRule, OptionsError, Page, SensorError, TickContext
from sensors.bigquery import BigQuerySensor
from sensors.event import Event
from tests.parts.bigquery import PROJECT, BigQueryEmulator
from tests.sensors.answering import FORBIDDEN, answering

ALL = Existing(ExistingRule.TRIGGER)
BASELINE = Existing()
COLUMNS = "test INT64, id INT64, amount NUMERIC, at TIMESTAMP"


@dataclass
class Orders:
    """A table of orders, of this test's own among all, and a trigger that watches it."""

    server: BigQueryEmulator
    root: Path
    cursor: str | None = None
    known: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.table = self.server.shared_table(COLUMNS)
        self.test = self.server.number()

    @property
    def query(self) -> str:
        return f"SELECT id, amount, at FROM {self.table} WHERE test = {self.test}"

    def put(self, *rows: tuple[int, str, str]) -> None:
        values = ", ".join(f"({self.test}, {id_}, {amount}, TIMESTAMP '{at}')" for id_, amount, at in rows)
        self.server.run(f"INSERT INTO {self.table} VALUES {values}")

    def sensor(self, **options: Any) -> BigQuerySensor:
        return BigQuerySensor.configure({"project": PROJECT, "endpoint": self.server.endpoint, **options})

    def pages(self, existing: Existing = ALL, **options: Any) -> list[Page]:
        context = TickContext(
            source="bigquery:Shop/Orders!", now=datetime.now(UTC), root=self.root, existing=existing
        )
        return list(self.sensor(**options).tick(self.cursor, context))

    def take(self, pages: Sequence[Page]) -> list[Event]:
        found = []
        for page in pages:
            self.cursor = page.cursor
            found += [event for event in page.events if event.key not in self.known]
            self.known |= {event.key for event in (*page.events, *page.baseline)}
        return found


@pytest.fixture
def orders(bigquery: BigQueryEmulator, tmp_path: Path) -> Orders:
    return Orders(bigquery, tmp_path)


def test_a_row_is_plain_json_with_its_own_time(orders: Orders) -> None:
    orders.put((1, "1.50", "2024-01-31T10:00:00Z"))

    (event,) = orders.take(orders.pages(query=orders.query, key=["id"], time="at"))

    assert event.data == {"id": 1, "amount": "1.5", "at": "2024-01-31T10:00:00Z"}
    assert event.time == datetime(2024, 1, 31, 10, tzinfo=UTC)
    assert (event.type, event.key, event.subject) == ("bigquery.row", "key:[1]", "[1]")


def test_nested_and_strange_values_are_plain_too(orders: Orders) -> None:
    query = (
        "SELECT [STRUCT(1 AS x, DATE '2024-01-01' AS y)] AS list, b'xy' AS bytes, "
        "CAST('nan' AS FLOAT64) AS nan, TIME '10:00:00' AS time, CAST(NULL AS STRING) AS nothing"
    )

    (event,) = orders.take(orders.pages(query=query))

    assert event.data == {
        "list": [{"x": 1, "y": "2024-01-01"}],
        "bytes": "eHk=",
        "nan": "nan",
        "time": "10:00:00",
        "nothing": None,
    }


def test_the_key_columns_say_which_rows_are_the_same(orders: Orders) -> None:
    orders.put((1, "1", "2024-01-01T00:00:00Z"), (1, "2", "2024-01-02T00:00:00Z"))

    by_id = {event.key for page in orders.pages(query=orders.query, key=["id"]) for event in page.events}
    by_all = {event.key for page in orders.pages(query=orders.query) for event in page.events}

    assert len(by_id) == 1
    assert len(by_all) == 2


def test_the_cursor_is_bound_and_moves_to_the_greatest_value(orders: Orders) -> None:
    options = {
        "query": f"{orders.query} AND (@cursor IS NULL OR at >= @cursor)",
        "cursor": "at",
        "key": ["id"],
    }
    orders.put((2, "1", "2024-01-02T00:00:00Z"), (1, "1", "2024-01-01T00:00:00Z"))
    first = orders.take(orders.pages(**options))
    orders.put((3, "1", "2024-01-02T00:00:00Z"), (0, "1", "2023-01-01T00:00:00Z"))

    pages = orders.pages(**options)

    assert len(first) == 2
    assert orders.cursor == '{"value": "2024-01-02T00:00:00Z"}'
    assert [event.data["id"] for page in pages for event in page.events] == [
        2,
        3,
    ]  # those at it, known or not
    assert [event.data["id"] for event in orders.take(pages)] == [3]


def test_a_number_can_be_the_cursor(orders: Orders) -> None:
    options = {
        "query": f"{orders.query} AND id > IFNULL(@cursor, 0)",
        "cursor": "id",
        "cursor_type": "INT64",
    }
    orders.put((9, "1", "2024-01-01T00:00:00Z"), (10, "1", "2024-01-01T00:00:00Z"))

    orders.take(orders.pages(**options))

    assert orders.cursor == '{"value": "10"}'
    assert orders.pages(**options) == []


def test_a_first_look_that_a_crash_cut_short_goes_on_with_what_it_saw(orders: Orders) -> None:
    before = datetime.now(UTC) - timedelta(hours=1)
    orders.put(*((number, "1", before.isoformat()) for number in range(510)))
    found = orders.take(orders.pages(BASELINE, query=orders.query)[:1])

    orders.put((1_000, "1", before.isoformat()))  # no clock tells that it came later
    found += orders.take(orders.pages(BASELINE, query=orders.query))

    assert [event.data["id"] for event in found] == [1_000]
    assert orders.cursor == "{}"


def test_a_first_look_that_the_service_has_forgotten_is_taken_again(orders: Orders) -> None:
    orders.put((1, "1", "2024-01-01T00:00:00Z"))
    orders.cursor = '{"first_job": "US/forgotten"}'

    pages = orders.pages(BASELINE, query=orders.query)

    assert [len(page.baseline) for page in pages] == [1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"query": "DELETE FROM {table} WHERE true"}, "the query is a DELETE; a sensor only reads"),
        ({"query": "SELECT 1; SELECT 2"}, "the query is a SCRIPT"),
        ({"query": "SELEC 1"}, "cannot be read: Syntax error"),
        ({"query": "SELECT * FROM nowhere.at_all"}, "is not there .*nowhere.*mend 'query'"),
        ({"query": "SELECT id FROM {table}", "key": ["ident"]}, "no column ident; it has id"),
        ({"query": "SELECT id FROM {table}", "cursor": "id"}, "id is INT64, .* say cursor_type: INT64"),
        ({"table": "nowhere.at_all"}, "the table nowhere.at_all is not there"),
    ],
)
def test_what_cannot_be_asked_is_named_with_what_to_do(
    orders: Orders, options: Mapping[str, Any], sentence: str
) -> None:
    given = {
        name: value.format(table=orders.table) if name == "query" else value
        for name, value in options.items()
    }

    with pytest.raises(SensorError, match=sentence):
        orders.pages(**given)


def test_a_time_is_wanted_to_part_rows_by_it(orders: Orders) -> None:
    since = Existing(ExistingRule.SINCE, datetime(2024, 1, 1, tzinfo=UTC))

    with pytest.raises(SensorError, match="name its column with 'time'"):
        orders.pages(since, query="SELECT 1 AS n")


def test_a_project_is_wanted(orders: Orders) -> None:
    with pytest.raises(SensorError, match="say 'project'"):
        orders.pages(query="SELECT 1", project=None)


def test_the_job_is_labelled(orders: Orders) -> None:
    orders.pages(query="SELECT 1 AS labelled")

    with closing(orders.server.client()) as client:
        labels = [
            dict(job.labels) for job in client.list_jobs() if "labelled" in str(getattr(job, "query", ""))
        ]

    assert {"millrace": "sensor", "millrace_trigger": "bigquery-shop-orders-"} in labels


def test_every_state_of_a_table_is_an_event(orders: Orders) -> None:
    table = f"{orders.server.make_dataset()}.loads"
    orders.server.run(f"CREATE TABLE {table} AS SELECT 1 AS id")
    first = orders.pages(BASELINE, table=table)
    orders.take(first)

    again = orders.pages(BASELINE, table=table)
    orders.server.run(f"INSERT INTO {table} VALUES (2)")
    (event,) = orders.take(orders.pages(BASELINE, table=table))

    assert [len(page.baseline) for page in first] == [1]
    assert again == []
    assert event.type == "bigquery.table"
    assert event.subject == event.data["table"] == f"{PROJECT}.{table}"
    assert event.data["rows"] == 2


def test_a_table_that_comes_to_be_is_an_event(orders: Orders) -> None:
    table = f"{orders.server.make_dataset()}.later"
    context = TickContext(source="b", now=datetime.now(UTC), root=orders.root)
    ticking = orders.sensor(table=table).tick(None, context)
    orders.take([next(ticking)])
    with pytest.raises(SensorError, match="is not there"):
        next(ticking)

    orders.server.run(f"CREATE TABLE {table} AS SELECT 1 AS id")

    assert len(orders.take(orders.pages(BASELINE, table=table))) == 1


def test_what_may_not_be_read_names_the_role_it_wants(tmp_path: Path) -> None:
    with answering(403, FORBIDDEN) as endpoint:
        sensor = BigQuerySensor.configure({"project": PROJECT, "endpoint": endpoint, "query": "SELECT 1"})
        context = TickContext(source="b", now=datetime.now(UTC), root=tmp_path)

        with pytest.raises(SensorError, match=r"may not be read .*roles/bigquery.jobUser"):
            list(sensor.tick(None, context))


def test_a_query_that_would_read_too_much_is_not_run(tmp_path: Path) -> None:
    dry_run = {
        "jobReference": {"projectId": PROJECT, "jobId": "dry", "location": "US"},
        "configuration": {"jobType": "QUERY", "dryRun": True, "query": {"query": "SELECT 1"}},
        "status": {"state": "DONE"},
        "statistics": {"query": {"statementType": "SELECT", "totalBytesProcessed": "2000000"}},
    }
    with answering(200, dry_run) as endpoint:
        sensor = BigQuerySensor.configure(
            {"project": PROJECT, "endpoint": endpoint, "query": "SELECT 1", "maximum_bytes_billed": 1_000_000}
        )
        context = TickContext(source="b", now=datetime.now(UTC), root=tmp_path)

        with pytest.raises(
            SensorError, match="would read 2,000,000 bytes, and maximum_bytes_billed is 1,000,000"
        ):
            list(sensor.tick(None, context))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "give either table or query"),
        ({"table": "a.b", "query": "SELECT 1"}, "give either table or query"),
        ({"table": "a.b", "key": ["id"]}, "key: only a query has that"),
        ({"table": "b"}, "'table'"),
        ({"query": "SELECT 1", "cursor_type": "BYTES"}, "'cursor_type'"),
        ({"query": "SELECT 1", "maximum_bytes_billed": 0}, "'maximum_bytes_billed'"),
    ],
)
def test_wrong_options_are_named(options: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        BigQuerySensor.configure(options)

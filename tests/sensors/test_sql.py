"""What is peculiar to the sql sensor."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pytest

from sensors.base import Cursor, Existing, ExistingRule, OptionsError, SensorError, TickContext
from sensors.event import Event
from sensors.sql import SqlSensor
from sensors.sql_databases import names_in

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


@dataclass
class Table:
    """A SQLite table `orders` and a trigger that watches it."""

    folder: Path
    options: Mapping[str, Any]
    cursor: Cursor = None
    now: datetime = NOW
    known: set[str] = field(default_factory=set)
    existing: Existing = field(default_factory=lambda: Existing(ExistingRule.TRIGGER))

    def run(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / "shop.db")) as connection, connection:
            connection.execute(statement, values)

    def put(self, number: int, at: datetime | None) -> None:
        self.run("INSERT INTO orders VALUES (?, ?)", number, None if at is None else at.isoformat())

    def tick(self, **changes: Any) -> list[Event]:
        found: list[Event] = []
        sensor = SqlSensor.configure({"url": "sqlite:///shop.db", **self.options, **changes})
        profiles: Mapping[str, Mapping[str, Any]] = {"lake": {"DUCKDB_DATABASE": "lake.duckdb"}}
        context = TickContext("sql:shop/orders", self.now, self.folder, self.existing, profiles.__getitem__)
        for page in sensor.tick(self.cursor, context):
            found += [event for event in page.events if event.key not in self.known]
            self.known |= {event.key for event in (*page.events, *page.baseline)}
            self.cursor = page.cursor
        return found

    def numbers(self, **changes: Any) -> list[int]:
        return [event.data["number"] for event in self.tick(**changes)]


@pytest.fixture
def orders(tmp_path: Path) -> Table:
    table = Table(tmp_path, {"query": "SELECT * FROM orders", "key": "number", "cursor": "at"})
    table.run("CREATE TABLE orders (number INTEGER, at TEXT)")
    return table


def test_row_that_comes_late_is_found_within_late(orders: Table) -> None:
    orders.put(1, NOW)
    orders.tick()
    orders.now += timedelta(hours=2)
    orders.put(2, NOW + timedelta(hours=2))
    orders.tick()

    orders.now += timedelta(minutes=30)
    orders.put(3, NOW + timedelta(hours=1))

    assert orders.numbers(late="1h") == [3]


def test_row_that_comes_later_still_is_found_by_the_sweep(orders: Table) -> None:
    orders.put(1, NOW)
    orders.tick()
    for _ in range(30):  # the second reading of everything, and then some
        orders.now += timedelta(minutes=30)
        orders.put(len(orders.known) + 1, orders.now)
        orders.tick()
    orders.put(1000, NOW - timedelta(days=3))

    before = orders.numbers()
    orders.now += timedelta(days=1)

    assert before == []
    assert orders.numbers() == [1000]


def test_row_that_was_under_way_at_first_sight_is_found(orders: Table) -> None:
    orders.existing = Existing()
    orders.put(1, NOW)
    orders.tick(sweep="off")

    orders.put(2, NOW - timedelta(minutes=10))  # its transaction began before, and ends now
    orders.now += timedelta(hours=1)

    assert orders.numbers(sweep="off") == [2]


def test_most_ticks_read_only_what_is_behind_the_watermark(orders: Table) -> None:
    for number in range(50):
        orders.put(number, NOW - timedelta(minutes=number))
    orders.tick()
    orders.now += timedelta(hours=3)
    orders.tick()  # the second reading of everything
    orders.run("UPDATE orders SET number = number + 1000 WHERE number > 0")

    assert orders.numbers() == []  # of changed rows with old stamps only a sweep hears


def test_steps_go_on_through_rows_of_equal_stamps(orders: Table) -> None:
    for number in range(10):
        orders.put(number, NOW + timedelta(seconds=number // 3))

    assert sorted(orders.numbers(max_rows=4)) == list(range(10))


def test_more_rows_of_one_stamp_than_a_step_has_are_an_error_with_a_remedy(orders: Table) -> None:
    for number in range(10):
        orders.put(number, NOW)

    with pytest.raises(SensorError, match=r"more than 4 rows have the same at.* raise `max_rows`"):
        orders.tick(max_rows=4)


def test_rows_without_a_stamp_are_found_too(orders: Table) -> None:
    orders.put(1, NOW)
    orders.tick()
    orders.put(2, None)

    assert orders.numbers() == [2]


def test_what_comes_during_a_first_sight_of_many_steps_is_no_baseline(orders: Table) -> None:
    orders.existing = Existing()
    for number in range(10):
        orders.put(number, NOW + timedelta(seconds=number))
    sensor = SqlSensor.configure({"url": "sqlite:///shop.db", **orders.options, "max_rows": 3})
    context = TickContext("sql:shop/orders", NOW, orders.folder, orders.existing)
    with closing(sensor.tick(None, context)) as pages:  # type: ignore[type-var]
        orders.cursor = next(pages).cursor

    orders.put(99, NOW + timedelta(minutes=1))

    assert orders.numbers(max_rows=3) == [99]


def test_without_a_watermark_too_many_rows_are_an_error_with_a_remedy(orders: Table) -> None:
    for number in range(5):
        orders.put(number, NOW)

    with pytest.raises(SensorError, match="more than 4 rows; name a column that grows by `cursor`"):
        orders.tick(max_rows=4, cursor=None)


def test_rows_that_are_the_same_in_all_are_one_event(orders: Table) -> None:
    orders.put(1, NOW)
    orders.put(1, NOW)

    (event,) = orders.tick(key=())

    assert event.key.startswith("sha256:")


def test_key_of_two_columns_and_the_time_of_another(orders: Table) -> None:
    orders.put(7, NOW - timedelta(days=1))

    (event,) = orders.tick(cursor=None, key=["number", "at"], time="at")

    assert event.key == '[7, "2024-05-31T12:00:00+00:00"]'
    assert event.time == NOW - timedelta(days=1)


def test_parameters_are_bound(orders: Table) -> None:
    for number in (1, 2):
        orders.put(number, NOW)
    query = "SELECT * FROM orders WHERE number = :wanted -- and :this is none, nor ':that'"

    assert orders.numbers(query=query, parameters={"wanted": 2}) == [2]


def test_parameter_without_a_value_is_named(orders: Table) -> None:
    with pytest.raises(SensorError, match="names :wanted, which is not in `parameters`"):
        orders.tick(query="SELECT * FROM orders WHERE number = :wanted")


def test_query_may_use_the_cursor_itself(orders: Table) -> None:
    orders.put(1, NOW)
    query = "SELECT * FROM orders WHERE :cursor IS NULL OR at >= :cursor"

    assert orders.numbers(query=query) == [1]
    orders.put(2, NOW)
    assert orders.numbers(query=query) == [2]


def test_names_are_told_from_texts_and_casts() -> None:
    query = "SELECT ':a', x::int, \":b\", $$ :c $$ /* :d */ FROM t WHERE y = :e AND at > '12:30' -- :f"

    assert names_in(query) == {"e"}


@pytest.mark.parametrize("statement", ["DELETE FROM orders", "SELECT 1) AS q; DELETE FROM orders; --"])
def test_query_can_write_nothing(orders: Table, statement: str) -> None:
    orders.put(1, NOW)

    with pytest.raises(SensorError, match="the query on SQLite"):
        orders.tick(query=statement)

    assert orders.numbers() == [1]


def test_slow_query_is_ended(orders: Table) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS at FROM n"

    with pytest.raises(SensorError, match=r"took longer than 0\.2 s"):
        orders.tick(query=endless, timeout=0.2, cursor=None, key=())


def test_column_that_is_not_there_is_named(orders: Table) -> None:
    orders.put(1, NOW)

    with pytest.raises(SensorError, match="no column 'colour', which `key` names; it has: number, at"):
        orders.tick(key="colour")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"query": "SELECT 1"}, "give either `profile` or `url`"),
        ({"query": "SELECT :cursor", "url": "sqlite:///a.db"}, "name its column by `cursor`"),
        ({"query": "SELECT 1", "url": "mysql://a/b"}, "'url'"),
        ({"query": "SELECT 1", "url": "sqlite:///a", "late": "soon"}, "no span of time"),
        ({"query": "SELECT 1", "url": "sqlite:///a", "parameters": {"cursor": 1}}, "the sensor's own"),
    ],
)
def test_wrong_options_are_explained(options: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        SqlSensor.configure(options)


def test_options_show_no_secret() -> None:
    sensor = SqlSensor.configure(
        {"url": "postgresql://me:geheim@db/x", "query": "SELECT 1", "parameters": {"p": "geheim"}}
    )

    assert "geheim" not in repr(sensor.options)


def test_duckdb_of_a_profile(orders: Table) -> None:
    with duckdb.connect(str(orders.folder / "lake.duckdb")) as lake:
        lake.execute("CREATE TABLE trips (id INTEGER, fare DECIMAL(9, 2), seen TIMESTAMPTZ)")
        lake.execute("INSERT INTO trips VALUES (1, 12.50, '2024-05-01 10:00:00+00')")
    changes = {"url": None, "profile": "lake", "key": "id", "query": "SELECT * FROM trips", "cursor": "seen"}

    (event,) = orders.tick(**changes)

    assert event.data["fare"] == "12.50"
    assert event.time == datetime(2024, 5, 1, 10, tzinfo=UTC)
    with duckdb.connect(str(orders.folder / "lake.duckdb")) as lake:
        lake.execute("INSERT INTO trips VALUES (2, 1, '2024-05-01 10:00:00+00')")
    assert [event.key for event in orders.tick(**changes)] == ["2"]


@pytest.fixture
def shop(postgres_url: str, orders: Table) -> Table:
    address = postgres_url.replace("+psycopg2", "")
    with closing(psycopg2.connect(address)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (number BIGINT, price NUMERIC, day DATE, note TEXT)")
        cursor.execute("INSERT INTO orders VALUES (1, 12.50, '2024-05-01', '100% sure')")
    orders.options = {"url": postgres_url, "query": "SELECT * FROM orders", "key": "number"}
    return orders


def test_values_of_postgres_become_plain(shop: Table) -> None:
    (event,) = shop.tick(query="SELECT * FROM orders WHERE note LIKE '100%'", time="day")

    assert event.data == {"number": 1, "price": "12.50", "day": "2024-05-01", "note": "100% sure"}
    assert event.time == datetime(2024, 5, 1, tzinfo=UTC)


def test_two_columns_of_one_name_are_an_error(shop: Table) -> None:
    with pytest.raises(SensorError, match="two columns named 'day'; rename one of them by AS"):
        shop.tick(query="SELECT number, day, day FROM orders")


def test_postgres_query_can_write_nothing(shop: Table) -> None:
    with pytest.raises(SensorError, match=r"read-only|cannot execute"):
        shop.tick(query="SELECT lo_create(0) AS number")


def test_postgres_query_that_is_slow_is_ended(shop: Table) -> None:
    with pytest.raises(SensorError, match=r"took longer than 0\.2 s"):
        shop.tick(query="SELECT 1 AS number FROM pg_sleep(5)", timeout=0.2)


def test_password_is_in_no_message(shop: Table) -> None:
    with pytest.raises(SensorError) as caught:
        shop.tick(url="postgresql://me:geheim@127.0.0.1:1/shop")

    assert "geheim" not in str(caught.value)


def test_decimal_watermark_survives_the_cursor(shop: Table) -> None:
    changes = {"cursor": "price"}
    assert len(shop.tick(**changes)) == 1
    assert '{"decimal": "12.50"}' in str(shop.cursor)
    assert shop.tick(**changes) == []

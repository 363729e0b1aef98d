from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import dlt
import duckdb
import pytest

from pipelines.model import Block, BlockType
from pipelines.run import RunResult
from tests.parts.http_site import HttpSite, running_site
from tests.parts.postgres import PostgresServer
from tests.pipelines.running import Bench

# dlt warns of its own arguments.
pytestmark = pytest.mark.filterwarnings("ignore:.*detect_precision_hints:DeprecationWarning")


@pytest.fixture
def bench(tmp_path: Path, postgres_server: PostgresServer, postgres_database: str) -> Bench:
    (tmp_path / "io_config.yaml").write_text(
        dedent(f"""\
        default:
          DUCKDB_DATABASE: lake.duckdb
        both:
          DUCKDB_DATABASE: lake.duckdb
          POSTGRES_HOST: localhost
        shop:
          POSTGRES_HOST: {postgres_server.socket_dir}
          POSTGRES_DBNAME: {postgres_database}
          POSTGRES_USER: {postgres_server.user}
        """)
    )
    return Bench(tmp_path)


@pytest.fixture
def site() -> Iterator[HttpSite]:
    with running_site() as running:
        yield running


def load(bench: Bench, text: str, run_id: str = "run-1", **more: Any) -> RunResult:
    block = Block("orders", BlockType.DATA_INTEGRATION, "yaml", "data_integrations/orders.yaml")
    spec = bench.spec((block, dedent(text)), **more)
    object.__setattr__(spec.facts, "run_id", run_id)
    return bench.execute(spec)


def rows(bench: Bench, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(bench.root / "lake.duckdb")) as connection:
        return connection.execute(query).fetchall()


REST = """
source:
  type: rest_api
  client: {base_url: "{{ variables('url') }}"}
  resource_defaults: {primary_key: id}
  resources:
  - {name: orders, endpoint: {path: orders, paginator: single_page}}
  - {name: shops, endpoint: {path: shops, paginator: single_page}}
destination: {profile: default, dataset: raw}
resources: [orders]
write_disposition: append
incremental: {cursor: id, initial: 0, param: since}
"""


def test_rest_api_goes_on_from_where_it_was(bench: Bench, site: HttpSite) -> None:
    orders: list[dict[str, Any]] = [{"id": 1, "lines": {"count": 2}}, {"id": 2, "lines": {"count": 1}}]
    site.serve("/orders", json.dumps(orders).encode(), {"Content-Type": "application/json"})
    first = load(bench, REST, variables={"url": site.url})
    again = load(bench, REST, variables={"url": site.url})  # the same run: its block is tried again
    log = bench.listener.text_of("orders")
    orders.append({"id": 3, "lines": {"count": 5}, "coupon": "x"})
    site.serve("/orders", json.dumps(orders).encode(), {"Content-Type": "application/json"})
    second = load(bench, REST, "run-2", variables={"url": site.url})

    assert [first.state, again.state, second.state] == ["succeeded"] * 3, (first, again, second)
    assert rows(bench, "SELECT id, lines__count FROM raw.orders ORDER BY id") == [(1, 2), (2, 1), (3, 5)]
    assert "table orders: 2 rows loaded" in log
    assert "not loaded again" in log
    assert bench.outputs("orders") == ({"orders": 1},)
    assert bench.listener.report("orders").rows == 1
    assert "table orders has new columns: coupon" in bench.listener.text_of("orders")
    assert (
        rows(bench, "SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%effect%'") == []
    )
    assert [asked.path for asked in site.asked] == ["/orders?since=0", "/orders?since=2"]


def test_tables_of_a_database_are_merged_on_their_key(
    bench: Bench, postgres_server: PostgresServer, postgres_database: str
) -> None:
    for statement in (
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(10, 2), changed timestamptz)",
        "INSERT INTO orders VALUES (1, 1.5, '2024-01-01Z'), (2, NULL, '2024-01-02Z')",
        "CREATE TABLE other (id int)",
    ):
        postgres_server.execute(statement, postgres_database)
    text = """
        source: {type: sql_database, profile: shop, schema: public, tables: [orders]}
        destination: {profile: default, dataset: shop}
        resources:
          orders: {write_disposition: merge, primary_key: id, incremental: {cursor: changed}}
    """
    first = load(bench, text)
    postgres_server.execute(
        "UPDATE orders SET amount = 7, changed = '2024-02-01Z' WHERE id = 2", postgres_database
    )
    second = load(bench, text, "run-2")

    assert first.state == second.state == "succeeded", (first, second)
    assert rows(bench, "SELECT id, amount::float FROM shop.orders ORDER BY id") == [(1, 1.5), (2, 7.0)]
    assert bench.outputs("orders") == ({"orders": 1},)


def test_load_that_was_cut_off_is_finished_and_not_repeated(
    bench: Bench, postgres_server: PostgresServer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go into Postgres; the first attempt ends between extracting and loading, as by a kill."""
    (bench.root / "in").mkdir()
    (bench.root / "in" / "a.csv").write_text("id,city\n1,Paris\n2,Rome\n")
    text = """
        source: {type: filesystem, path: in, pattern: "*.csv", format: csv, table: cities}
        destination: {profile: shop, schema: raw}
        write_disposition: append
    """

    class Killed(BaseException):
        pass

    def die(*arguments: object, **keywords: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(dlt.Pipeline, "load", die)
        cut = load(bench, text)
    finished = load(bench, text)
    again = load(bench, text)

    assert cut.state == "failed"
    assert finished.state == again.state == "succeeded", (finished, again)
    found = postgres_server.fetch("SELECT id, city FROM raw.cities ORDER BY id", postgres_database)
    assert found == [(1, "Paris"), (2, "Rome")]
    assert "left data on its way" in bench.listener.text_of("orders")


def test_source_may_be_made_by_python(bench: Bench) -> None:
    source = """
        import dlt

        @data_integration
        def letters(*args, **kwargs):
            return dlt.resource(({"n": n, "day": kwargs["ds"]} for n in range(3)), name="letters")
    """
    block = Block(
        "letters", BlockType.DATA_INTEGRATION, "python", "data_integrations/letters.py",
        configuration={"destination": {"dataset": "raw"}, "write_disposition": "replace"},
    )  # fmt: skip

    result = bench.run((block, dedent(source)))

    assert result.state == "succeeded", result.error
    assert rows(bench, "SELECT n, day FROM raw.letters") == [(n, "2024-01-02") for n in range(3)]


def test_error_of_a_python_source_says_its_line(bench: Bench) -> None:
    source = """\
        import dlt

        def rows():
            yield {"n": 1}
            raise RuntimeError("gone")

        @data_integration
        def letters():
            return dlt.resource(rows, name="letters")
    """
    block = Block(
        "letters", BlockType.DATA_INTEGRATION, "python", "data_integrations/letters.py",
        configuration={"destination": {"dataset": "raw"}},
    )  # fmt: skip

    result = bench.run((block, dedent(source)))

    assert "IntegrationFailed: data_integrations/letters.py:5: RuntimeError: gone" in (result.error or "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source: {type: sql_database, credentials: 'sqlite:///', tables: [gone]}\n"
            "destination: {dataset: x}",
            "data_integrations/orders.yaml: InvalidRequestError: Could not reflect",
        ),
        (
            "source: {type: sql_database, credentials: 'sqlite:///there.sqlite', tables: [orders]}\n"
            "destination: {dataset: x}\nincremental: {cursor: gone}",
            "Cursor column `gone` does not exist in table `orders`",
        ),
        ("source: {type: mysql}", "the `type` of `source` is 'mysql'; it may be one of filesystem, rest_api"),
        ("sauce: {}", "unknown key 'sauce'; it may have"),
        (
            "source: {type: sql_database, profile: shop}\nwrite_disposition: upsert",
            "may be one of append, merge",
        ),
        ("source: {type: sql_database, profile: shop, tables: [gone]}\ndestination: {dataset: x}", "gone"),
        ("source: {type: rest_api, client: {base_url: '{{ nowhere }}'}}", "'nowhere' is not known here"),
        ("source: {type: sql_database, profile: shop, tabels: [a]}", "tabels"),
        (
            "source: {type: filesystem, path: gone}\ndestination: {profile: both}",
            "profile 'both' has the settings of duckdb, postgres, and no `type` is given; name one by `type`",
        ),
        ("source: {type: filesystem, path: gone}", "there is no folder 'gone' in the project"),
        ("source: [", "data_integrations/orders.yaml:"),
        ("incremental: {}\nsource: {type: rest_api}", "must name its `cursor`"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(bench.root)
    with closing(sqlite3.connect("there.sqlite")) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")

    error = load(bench, text).error or ""

    assert message in error
    assert "\n" not in error


def test_missing_dlt_is_said_in_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlt", None)

    error = load(bench, "source: {type: rest_api}").error or ""

    assert "data integration blocks need dlt, which is not installed; install the extra `dlt`" in error

"""SQL blocks, on all databases they run on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pandas as pd
import pytest

from pipelines.blocks.sql import run_sql
from pipelines.blocks.sql_settings import connector_class
from pipelines.context import BlockContext, EffectCounter, current_block
from pipelines.errors import BlockCodeError, MillraceError
from pipelines.io import DuckDB
from pipelines.io.errors import ExportRefused, QueryFailed
from pipelines.io.sqlconnector import SqlConnector
from pipelines.model import Block, BlockType, Pipeline
from pipelines.sql_providers import PROVIDERS
from pipelines.templating import TemplateError
from tests.parts.bigquery import BigQueryEmulator
from tests.pipelines.io.projects import write_profiles

SCHEMAS = {"mysql": "mysql_lake", "bigquery": "bigquery_lake"}  # databases and datasets, which tests share
ZONES = pd.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"]})


class Site:
    """A project whose SQL blocks run on one database."""

    def __init__(self, root: Path, provider: str, keys: Mapping[str, Any]) -> None:
        self.provider = provider
        self.root = root
        self.run_id = f"run-{uuid4()}"  # servers that tests share know what was written once
        self.profiles = write_profiles(root, dev=keys, spare=keys)

    @property
    def schema(self) -> str | None:
        """A schema that is not there yet; SQLite has none."""
        return None if self.provider == "sqlite" else SCHEMAS.get(self.provider, "lake")

    @property
    def whole(self) -> str:
        """The type of whole numbers in a CAST."""
        return "signed" if self.provider == "mysql" else "bigint"

    @property
    def connector(self) -> SqlConnector:
        return connector_class(self.provider).from_profile(self.profiles.profile("dev"))

    def block(self, name: str, upstream: Sequence[str] = (), **configuration: Any) -> Block:
        given = {"data_provider": self.provider, "data_provider_profile": "dev", **configuration}
        path = f"transformers/{name}.sql"
        return Block(name, BlockType.TRANSFORMER, "sql", path, tuple(upstream), given)

    def run(
        self, sql: str, *inputs: Any, variables: Mapping[str, Any] | None = None, **configuration: Any
    ) -> Any:
        """Run a block whose inputs come from Python blocks, and that a Python block follows."""
        upstream = [f"load_{place}" for place, _ in enumerate(inputs)]
        block = self.block("tidy", upstream, **configuration)
        others = [Block(name, BlockType.DATA_LOADER, "python", f"{name}.py") for name in upstream]
        after = Block("after", BlockType.DATA_EXPORTER, "python", "after.py", ("tidy",))
        return self.run_in(Pipeline("taxi", "m.yaml", (*others, block, after)), block, sql, inputs, variables)

    def run_in(
        self,
        pipeline: Pipeline,
        block: Block,
        sql: str,
        inputs: Sequence[Any] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> Any:
        context = BlockContext(
            run_id=self.run_id,
            project="test",
            root=self.root,
            pipeline=pipeline,
            block=block,
            attempt=1,
            keywords={"env": "prod", "ds": "2024-01-31", **(variables or {})},
            upstream=block.upstream,
            source=sql,
            profiles=self.profiles,
            logger=logging.getLogger("block.tidy"),
            effects=EffectCounter(self.run_id, block.name),
        )
        token = current_block.set(context)
        try:
            return run_sql(context, inputs)
        finally:
            current_block.reset(token)


@pytest.fixture
def duckdb_profile_keys() -> dict[str, Any]:
    return {"DUCKDB_DATABASE": "w.duckdb"}


@pytest.fixture
def sqlite_profile_keys() -> dict[str, Any]:
    return {"SQLITE_DATABASE": "w.sqlite"}


@pytest.fixture
def bigquery_profile_keys(bigquery: BigQueryEmulator) -> dict[str, Any]:
    return {
        "GOOGLE_BIGQUERY_DATASET": bigquery.make_dataset(),
        "GOOGLE_BIGQUERY_ENDPOINT": bigquery.endpoint,
        "GOOGLE_PROJECT_ID": bigquery.project,
    }


@pytest.fixture(params=sorted(PROVIDERS))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(tmp_path, request.param, request.getfixturevalue(f"{request.param}_profile_keys"))


def test_a_query_writes_its_rows_and_hands_them_on(site: Site) -> None:
    (output,) = site.run(
        "SELECT id, name FROM {{ df_1 }} WHERE id > 1;  -- the rest",
        ZONES,
        data_provider_schema=site.schema,
        data_provider_table="zones",
        export_write_policy="replace",
    )

    zones = f"{site.schema}.zones" if site.schema else "zones"
    assert output["id"].tolist() == [2, 3]
    assert len(site.connector.load(f"SELECT * FROM {zones}")) == 2


def test_a_block_that_nothing_follows_reads_nothing_back(site: Site) -> None:
    block = site.block("last", data_provider_table="t")

    assert site.run_in(Pipeline("taxi", "m.yaml", (block,)), block, "SELECT 1 AS a") == ()
    assert site.connector.load("SELECT a FROM t")["a"].tolist() == [1]


@pytest.mark.parametrize(("policy", "rows"), [("append", [1, 2]), ("replace", [2])])
def test_the_write_policy_says_what_becomes_of_old_rows(site: Site, policy: str, rows: list[int]) -> None:
    site.connector.export(pd.DataFrame({"a": [1]}), table_name="t")

    query = f"SELECT CAST(2 AS {site.whole}) AS a"
    (output,) = site.run(query, data_provider_table="t", export_write_policy=policy)

    assert sorted(output["a"]) == rows


def test_a_query_may_replace_the_table_it_reads(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [1, 1, 2]}), table_name="t")

    site.run("SELECT DISTINCT a FROM t", data_provider_table="t", export_write_policy="replace")

    assert sorted(site.connector.load("SELECT a FROM t")["a"]) == [1, 2]


def test_the_policy_fail_leaves_the_table(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [1]}), table_name="t")

    with pytest.raises(ExportRefused, match=r"transformers/tidy\.sql: .*exists already"):
        site.run("SELECT 2 AS a", data_provider_table="t", export_write_policy="fail")


def test_a_query_tried_again_writes_once(site: Site) -> None:
    for _ in range(2):
        (output,) = site.run("SELECT id FROM {{ df_1 }}", ZONES, data_provider_table="t")

    assert len(output) == 3


def test_a_table_without_a_name_gets_that_of_the_block(site: Site) -> None:
    site.run("SELECT 1 AS a")

    assert len(site.connector.load("SELECT * FROM taxi_tidy_v1")) == 1


def test_the_table_of_an_upstream_query_is_read_where_it_lies(site: Site) -> None:
    first = site.block("first", data_provider_table="t1")
    second = site.block("second", ["first"], data_provider_table="t2")
    pipeline = Pipeline("taxi", "m.yaml", (first, second))

    assert site.run_in(pipeline, first, "SELECT 1 AS a") == ()
    site.run_in(pipeline, second, "SELECT a + 1 AS b FROM {{ df_1 }}", [None])

    assert site.connector.load("SELECT b FROM t2")["b"].tolist() == [2]


@pytest.mark.parametrize("more", [{"data_provider_profile": "spare"}, {"use_raw_sql": True}])
def test_rows_that_are_read_elsewhere_are_handed_on(site: Site, more: dict[str, Any]) -> None:
    """Another profile may be another database, and a raw block has no table of its own."""
    first = site.block("first", data_provider_table="t1", **({} if "data_provider_profile" in more else more))
    second = site.block("second", ["first"], data_provider_table="t2", **more)
    pipeline = Pipeline("taxi", "m.yaml", (first, second))

    (output,) = site.run_in(pipeline, first, "SELECT 1 AS a")
    site.run_in(pipeline, second, "SELECT a + 1 AS b FROM {{ df_1 }}", [output])

    assert output["a"].tolist() == [1]


def test_merge_updates_by_the_columns_of_the_configuration(site: Site) -> None:
    site.connector.export(pd.DataFrame({"id": [1, 2], "n": [10, 20]}), table_name="t")

    site.run(
        f"SELECT CAST(2 AS {site.whole}) AS id, CAST(7 AS {site.whole}) AS n UNION ALL SELECT 3, 8",
        data_provider_table="t",
        export_write_policy="merge",
        unique_constraints=["id"],
    )

    assert site.connector.load("SELECT n FROM t ORDER BY id")["n"].tolist() == [10, 7, 8]


def test_another_database_than_the_profiles_is_refused(site: Site) -> None:
    key = PROVIDERS[site.provider].database_key
    if key is None:
        pytest.skip("a profile reaches more than one database")
    there = site.profiles.profile("dev").get(key)

    site.run("SELECT 1 AS a", data_provider_database=there)
    with pytest.raises(BlockCodeError, match=r"data_provider_database: other, but profile 'dev' connects to"):
        site.run("SELECT 1 AS a", data_provider_database="other")


def test_values_become_literals_that_read_back_as_they_were(site: Site) -> None:
    values = {
        "name": "O'Hara; DROP TABLE t; --",
        "back": "a\\' OR 1=1",
        "nothing": None,
        "less": -3,
        "yes": True,
        "ids": [1, 2],
        "column": 'odd "name"',
    }

    (output,) = site.run(
        "SELECT {{ name | sql_literal }} AS a, {{ back | sql_literal }} AS b, "
        "{{ nothing | sql_literal }} IS NULL AS c, 5 -{{ less | sql_literal }} AS d, "
        "{{ yes | sql_literal }} AS e, 2 IN {{ ids | sql_literal }} AS f, "
        "1 AS {{ column | sql_name }}",
        variables=values,
        use_raw_sql=True,
    )

    assert output.iloc[0].tolist() == [values["name"], values["back"], True, 8, True, True, 1]
    assert output.columns[-1] == 'odd "name"'


@pytest.mark.parametrize("value", ["a\0b", [], object()])
def test_what_has_no_literal_is_refused(site: Site, value: object) -> None:
    with pytest.raises(TemplateError, match=r"transformers/tidy\.sql, line 1: sql_literal: "):
        site.run("SELECT {{ value | sql_literal }}", variables={"value": value}, use_raw_sql=True)


def test_variables_and_functions_are_rendered(site: Site) -> None:
    (output,) = site.run(
        "SELECT '{{ ds }}' AS ds, '{{ month }}' AS month, {{ variables('low') }} AS low, "
        "{{ block_output('load_0') }} AS n",
        5,
        variables={"month": "2024-01", "low": 7},
        use_raw_sql=True,
    )

    assert output.iloc[0].tolist() == ["2024-01-31", "2024-01", 7, 5]


@pytest.mark.parametrize(
    ("sql", "said"), [("SELECT {{ nowhere }}", "nowhere"), ("SELECT * FROM {{ df_2 }}", "df_2")]
)
def test_an_undefined_name_is_an_error(site: Site, sql: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        site.run(sql, ZONES, use_raw_sql=True)


def test_the_profile_may_be_a_template(site: Site) -> None:
    (output,) = site.run(
        "SELECT 1 AS a", data_provider_profile="{{ variables('where') }}", variables={"where": "spare"}
    )

    assert len(output) == 1


def test_raw_statements_run_in_one_transaction_and_the_last_query_is_the_output(site: Site) -> None:
    (output,) = site.run(
        "CREATE TABLE t (a bigint); INSERT INTO t SELECT id FROM {{ df_1 }}; SELECT sum(a) AS a FROM t;",
        ZONES,
        use_raw_sql=True,
    )
    assert output["a"].tolist() == [6]

    with pytest.raises(QueryFailed, match="nowhere"):
        site.run("SELECT * FROM t; SELECT * FROM nowhere", use_raw_sql=True)


def test_a_raw_query_only_reads(site: Site) -> None:
    (output,) = site.run("SELECT count(*) AS n FROM {{ df_1 }} WHERE name IS NULL", ZONES, use_raw_sql=True)

    assert output["n"].tolist() == [1]


def test_raw_writing_is_done_once_and_its_output_given_again(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [0]}), table_name="t")

    for _ in range(2):
        (output,) = site.run(
            "INSERT INTO t SELECT id FROM {{ df_1 }}; SELECT a FROM t", ZONES, use_raw_sql=True
        )
        assert len(output) == 4
    (output,) = site.run("INSERT INTO t VALUES (9)", use_raw_sql=True)
    assert len(output) == 4  # the same block of the same run: written already


def test_raw_statements_that_end_in_a_change_give_the_table(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [7]}), site.schema, "Odd")
    odd = site.connector.quoted(*filter(None, (site.schema, "Odd")))

    (output,) = site.run(
        f"DELETE FROM {odd} WHERE a = 7; INSERT INTO {odd} VALUES (1), (2)", use_raw_sql=True
    )

    assert sorted(output["a"]) == [1, 2]


def test_a_failed_raw_block_changes_nothing(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [0]}), table_name="t")

    with pytest.raises((ExportRefused, QueryFailed), match=r"transformers/tidy\.sql.*: .*nowhere"):
        site.run("DELETE FROM t WHERE a = 0; INSERT INTO nowhere VALUES (1)", use_raw_sql=True)

    # In BigQuery each statement is a job of its own, and the next try goes on after it.
    kept = 0 if site.provider == "bigquery" else 1
    assert len(site.connector.load("SELECT * FROM t")) == kept


def test_text_without_preprocessing_is_sent_whole_and_gives_nothing(site: Site) -> None:
    assert site.run("CREATE TABLE t (a int)", use_raw_sql=True, disable_query_preprocessing=True) == ()
    assert len(site.connector.load("SELECT * FROM t")) == 0


def test_the_limit_of_a_run_bounds_the_output(site: Site) -> None:
    (output,) = site.run("SELECT id FROM {{ df_1 }}", ZONES, limit_in_pipeline_run=2)

    assert len(output) == 2


def test_the_provider_is_told_by_the_profile_where_that_has_but_one(site: Site) -> None:
    site.run("SELECT 1 AS a", data_provider=None, data_provider_table="t")

    assert len(site.connector.load("SELECT * FROM t")) == 1


@pytest.mark.parametrize(
    ("sql", "inputs", "configuration", "said"),
    [
        ("SELECT 1; SELECT 2", [], {}, "2 statements.*use_raw_sql"),
        ("-- nothing", [], {"use_raw_sql": True}, "holds no statement"),
        ("SELECT * FROM {{ df_1 }}", [None], {}, r"df_1.*'load_0' returned nothing"),
        ("SELECT 1", [], {"data_provider": "oracle"}, "data_provider: oracle.*duckdb, mysql, postgres"),
    ],
)
def test_a_block_that_cannot_be_run_is_explained(
    site: Site, sql: str, inputs: list[Any], configuration: dict[str, Any], said: str
) -> None:
    with pytest.raises(BlockCodeError, match=said):
        site.run(sql, *inputs, **configuration)


def test_an_input_that_is_no_table_names_its_block(site: Site) -> None:
    with pytest.raises(ExportRefused, match=r"df_1 .*'load_0': cannot export a int"):
        site.run("SELECT * FROM {{ df_1 }}", 5)


def test_a_fault_is_placed_by_line_and_column(site: Site) -> None:
    if site.provider == "bigquery":
        pytest.skip("the emulator does not say where; see the connector's own tests")
    text = (
        "-- the trips\nSELECT id, {{ note | sql_literal }} AS note,\n       no_such_column\nFROM {{ df_1 }}"
    )

    with pytest.raises((ExportRefused, QueryFailed), match="no_such_column") as failed:
        site.run(text, ZONES, variables={"note": "a text\nof two lines"}, data_provider_table="t")

    assert str(failed.value).startswith("transformers/tidy.sql, line 3, column 8: ")


def test_a_fault_of_a_later_statement_is_placed(site: Site) -> None:
    if site.provider == "bigquery":
        pytest.skip("the emulator does not say where; see the connector's own tests")
    text = "{% set n = 1 %}SELECT {{ n }};\n\nSELECT a\n  FROM nowhere"

    with pytest.raises(QueryFailed, match="nowhere") as failed:
        site.run(text, use_raw_sql=True)

    assert str(failed.value).startswith("transformers/tidy.sql, line 4, column 8: ")


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("SELECT {{ block_output('load_0', parse=lambda data, _: data['n']) }} AS a", 5),
        (
            "SELECT {{ block_output('load_0', parse=lambda it, _: max(it['ns'], key=lambda n: -n)) }} AS a",
            1,
        ),
        ("SELECT {{ block_output(parse=lambda data, variables: data[0]['n'] + variables['low']) }} AS a", 12),
    ],
)
def test_a_lambda_picks_from_the_output_of_a_block(site: Site, template: str, found: int) -> None:
    (output,) = site.run(template, {"n": 5, "ns": [1, 2]}, variables={"low": 7}, use_raw_sql=True)

    assert output["a"].tolist() == [found]


def test_a_lambda_may_look_into_a_frame(site: Site) -> None:
    text = "SELECT {{ block_output('load_0', parse=lambda df, _: df['id'].sum()) }} AS a"

    (output,) = site.run(text, ZONES, use_raw_sql=True)

    assert output["a"].tolist() == [6]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("\n{{ block_output('load_0', parse=lambda data, _: data['m']) }}", "line 2: .*KeyError: 'm'"),
        ("\n{{ block_output('load_0', parse=lambda data, _: data[) }}", "line 2: .*is no Python"),
        ("{{ block_output('nobody') }}", "no such upstream block"),
    ],
)
def test_a_lambda_that_fails_is_explained(site: Site, call: str, said: str) -> None:
    with pytest.raises(MillraceError, match=said):
        site.run(f"SELECT {call} AS a", {"n": 5}, use_raw_sql=True)


def test_a_transaction_around_all_statements_is_that_of_the_block(site: Site) -> None:
    begin = "BEGIN TRANSACTION" if site.provider != "mysql" else "START TRANSACTION"
    if site.provider == "bigquery":
        pytest.skip("there each statement is a job of its own")
    site.connector.export(pd.DataFrame({"a": [0]}), table_name="t")

    for _ in range(2):
        (output,) = site.run(f"{begin};\n-- more\nINSERT INTO t VALUES (1);\nCOMMIT;", use_raw_sql=True)

    assert sorted(output["a"]) == [0, 1]


@pytest.mark.parametrize("whole", [False, True])
def test_a_transaction_that_would_end_in_the_middle_is_refused(site: Site, whole: bool) -> None:
    if site.provider == "bigquery":
        pytest.skip("there each statement is a job of its own")
    site.connector.export(pd.DataFrame({"a": [0]}), table_name="t")

    with pytest.raises(
        BlockCodeError, match=r"tidy\.sql holds COMMIT; a SQL block is one transaction as a whole"
    ):
        site.run(
            "INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)",
            use_raw_sql=True,
            disable_query_preprocessing=whole,
        )
    assert len(site.connector.load("SELECT * FROM t")) == 1


def test_a_comment_before_the_last_statement_does_not_hide_its_table(site: Site) -> None:
    site.connector.export(pd.DataFrame({"a": [0]}), table_name="t")

    (output,) = site.run("-- Docs: see the guide\nINSERT INTO t VALUES (1)", use_raw_sql=True)

    assert sorted(output["a"]) == [0, 1]


def test_the_table_of_an_upstream_block_is_named_by_its_own_variables(site: Site) -> None:
    named = {"data_provider_table": "{{ block_uuid }}_out"}
    first, second = site.block("first", **named), site.block("second", ["first"], **named)
    pipeline = Pipeline("taxi", "m.yaml", (first, second))

    site.run_in(pipeline, first, "SELECT 1 AS a", variables={"block_uuid": "first"})
    site.run_in(
        pipeline, second, "SELECT a + 1 AS b FROM {{ df_1 }}", [None], variables={"block_uuid": "second"}
    )

    assert site.connector.load("SELECT b FROM second_out")["b"].tolist() == [2]


@pytest.mark.parametrize(("rows", "found"), [(ZONES, 3), (ZONES.head(0), 0)])
def test_the_text_may_ask_how_many_rows_there_are(site: Site, rows: pd.DataFrame, found: int) -> None:
    text = (
        "SELECT {% if df_1 is not none and df_1 | length > 0 %}{{ df_1 | length }}{% else %}0{% endif %} AS n"
    )

    (output,) = site.run(text, rows, use_raw_sql=True)

    assert output["n"].tolist() == [found]


def test_a_text_of_comments_that_mage_wrote_does_nothing(
    tmp_path: Path, duckdb_profile_keys: dict[str, Any]
) -> None:
    site = Site(tmp_path, "duckdb", duckdb_profile_keys)
    block = replace(site.block("empty"), is_of_mage=True)

    assert site.run_in(Pipeline("taxi", "m.yaml", (block,)), block, "-- Docs: see the guide\n") == ()


def test_a_dataset_is_made_for_a_frame_also_where_the_profile_says_the_location(
    tmp_path: Path, bigquery: BigQueryEmulator
) -> None:
    keys = {
        "GOOGLE_BIGQUERY_ENDPOINT": bigquery.endpoint,
        "GOOGLE_LOCATION": "US",
        "GOOGLE_PROJECT_ID": bigquery.project,
    }
    dataset = f"made_{uuid4().hex}"

    (output,) = Site(tmp_path, "bigquery", keys).run(
        "SELECT id FROM {{ df_1 }}", ZONES, data_provider_schema=dataset
    )

    assert len(output) == 3


def test_a_try_that_the_database_rolled_back_leaves_no_output(
    tmp_path: Path, duckdb_profile_keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else changes the table between our statements and our commit: DuckDB has us try again."""
    site = Site(tmp_path, "duckdb", duckdb_profile_keys)
    site.connector.execute("CREATE TABLE t (a int)")
    read, changes = DuckDB.read, iter(["ALTER TABLE t ADD COLUMN b int DEFAULT 5"])

    def read_and_disturb(self: DuckDB, session: Any, query: str, **options: Any) -> Any:
        rows = read(self, session, query, **options)
        for change in changes:
            with duckdb.connect(str(tmp_path / "w.duckdb")) as other:
                other.execute(change)
        return rows

    monkeypatch.setattr(DuckDB, "read", read_and_disturb)

    outputs = site.run("INSERT INTO t (a) VALUES (1); SELECT * FROM t", use_raw_sql=True)

    assert [frame.to_dict("list") for frame in outputs] == [{"a": [1], "b": [5]}]

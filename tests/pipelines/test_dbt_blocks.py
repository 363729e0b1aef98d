from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipelines.blockruns import BlockRunner
from pipelines.blocks.dbt_settings import DbtSettings
from pipelines.io.config import Profiles
from pipelines.model import Block, BlockType
from pipelines.nodes import Node, State
from pipelines.secrets import Secrets
from tests.parts.dbt import dbt_python
from tests.parts.postgres import PostgresServer
from tests.pipelines.running import Bench, python

PROJECT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\nmodel-paths: [models]\n"
    "models: {shop: {+materialized: table}}\n",
    "models/stg_orders.sql": "select * from (values (1, 10.5), (2, 20.0), (3, null)) as t(id, amount)\n",
    "models/orders.sql": "select id, amount, '{{ var('ds') }}' as day from {{ ref('stg_orders') }} "
    "where id < {{ var('most', 100) }}\n",
    "models/schema.yml": """
        models:
        - name: orders
          columns:
          - {name: id, data_tests: [unique, not_null]}
        """,
}
DUCKDB = """
    shop:
      target: dev
      outputs:
        dev: {type: duckdb, path: "{{ env_var('SHOP_DB') }}", threads: 1}
"""
TAKE = "from pipelines import data_exporter\n@data_exporter\ndef run(df):\n    print(len(df))\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "io_config.yaml").write_text(f"default:\n  DBT_PYTHON: {dbt_python()}\n")
    lay_out(tmp_path / "dbt" / "shop", {**PROJECT, "profiles.yml": DUCKDB})
    return Bench(tmp_path, environ={"SHOP_DB": str(tmp_path / "shop.duckdb")})


def lay_out(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))


def model(name: str, *upstream: str, **configuration: Any) -> tuple[Block, str]:
    path = f"dbt/shop/models/{name}.sql"
    return Block(name, BlockType.DBT, "sql", path, upstream, configuration), ""


def command(name: str, text: str, **configuration: Any) -> tuple[Block, str]:
    given = {"dbt_project_name": "shop", **configuration}
    return Block(name, BlockType.DBT, "yaml", f"dbts/{name}.yaml", (), given), text


def test_model_runs_with_what_is_above_it_is_tested_and_hands_its_rows_on(bench: Bench) -> None:
    result = bench.run(model("orders"), python("take", TAKE, "orders"), variables={"most": 3})

    assert result.state == "succeeded", result.error
    log = bench.listener.text_of("orders")
    assert "model stg_orders: success in" in log
    assert "test unique_orders_id: pass in" in log
    (frame,) = bench.outputs("orders")
    assert frame.sort_values("id").values.tolist() == [[1, 10.5, "2024-01-02"], [2, 20.0, "2024-01-02"]]
    assert bench.listener.report("orders").rows == 2
    assert not (bench.root / "dbt/shop/target").exists()


def test_failed_tests_fail_the_block_and_rows_are_counted(
    bench: Bench, postgres_server: PostgresServer, postgres_database: str
) -> None:
    target = {"type": "postgres", "host": postgres_server.socket_dir, "user": postgres_server.user,
              "password": "", "port": 5432, "dbname": postgres_database, "schema": "shop"}  # fmt: skip
    profile = {"shop": {"target": "{{ variables('where') }}", "outputs": {"prod": target}}}
    (bench.root / "dbt/shop/profiles.yml").write_text(json.dumps(profile))
    (bench.root / "dbt/shop/models/stg_orders.sql").write_text(
        "select * from (values (1, 1.0), (1, 2.0), (2, null)) as t(id, amount)\n"
    )

    result = bench.run(command("all", "# all of it\n--select +orders"), variables={"where": "prod"})

    assert result.state == "failed"
    assert "dbts/all.yaml: test unique_orders_id: fail" in (result.error or "")
    assert "Got 1 result, configured to fail if != 0" in (result.error or "")
    log = bench.listener.text_of("all")
    assert "model orders: success in" in log
    assert ", 3 rows" in log
    assert "test not_null_orders_id: pass" in log
    assert postgres_server.fetch("SELECT count(*) FROM shop.orders", postgres_database) == [(3,)]


def test_models_that_blocks_above_have_run_are_left_to_them(bench: Bench) -> None:
    above = model("stg_orders")[0]

    run, test = calls(bench, *model("orders", "stg_orders"), above)

    assert run[:5] == ["run", "--select", "+orders", "--exclude", "+stg_orders"]
    assert test[:5] == ["test", "--select", "+orders", "--exclude", "+stg_orders"]


def test_command_and_its_arguments_come_from_configuration_and_file(bench: Bench) -> None:
    (seed,) = calls(
        bench,
        *command(
            "seed",
            "--full-refresh --select {{ ds }} --vars '{most: 7}'",
            dbt={"command": "seed", "disable_tests": True},
            dbt_profile_target="{{ env_var('SHOP_DB') and 'dev' }}",
        ),
    )
    (build,) = calls(bench, *command("all", "build -s a b --fail-fast"))
    (bench.root / "dbt/shop/packages.yml").write_text("packages: [{local: ../more}]\n")
    deps, _, test = calls(bench, *command("all", "-s a b --fail-fast --exclude c"))

    assert seed[:4] == ["seed", "--full-refresh", "--select", "2024-01-02"]
    assert seed[seed.index("--target") + 1] == "dev"
    assert json.loads(seed[seed.index("--vars") + 1])["most"] == 7
    assert build[:5] == ["build", "-s", "a", "b", "--fail-fast"]
    assert deps[0] == "deps"
    assert test[:6] == ["test", "-s", "a", "b", "--exclude", "c"]


def calls(bench: Bench, block: Block, source: str, *above: Block) -> list[list[str]]:
    """Return how dbt would be called for a block."""
    spec = bench.spec(*((one, "") for one in above), (block, source))
    profiles = Profiles(bench.root, environ=bench.environ, secrets=Secrets(None, {}))
    runner = BlockRunner(spec, profiles, bench.checkpoints, bench.crash)
    context = runner._context(Node(block, State.READY, 1), block)
    return list(DbtSettings.of(context).calls(bench.root / "made"))


def test_what_is_wrong_is_said_in_one_line(bench: Bench) -> None:
    (bench.root / "io_config.yaml").write_text(f"default:\n  DBT_PYTHON: {sys.executable}\n")
    lacking = bench.run(model("orders")).error or ""
    (bench.root / "dbt/shop/profiles.yml").write_text(DUCKDB.replace("SHOP_DB", "NOT_SET"))
    unset = bench.run(model("orders")).error or ""
    (bench.root / "dbt/shop/profiles.yml").unlink()
    profiles = bench.run(model("orders")).error or ""
    project = bench.run(command("all", "--select x", dbt_project_name="stop")).error or ""

    assert "dbt is not installed for" in lacking
    assert "NOT_SET is not set" in unset
    assert "profiles.yml, line" in unset
    assert "the dbt project shop has no profiles.yml" in profiles
    assert "there is no dbt_project.yml in dbt/stop" in project

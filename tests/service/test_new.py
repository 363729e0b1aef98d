from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from pipelines.model import Severity
from pipelines.project import Project
from pipelines.run import RunSpec
from pipelines.variables import RunFacts
from service.blueprints.catalog import own_templates
from service.blueprints.making import NewBlock, make_block
from service.checks import problems_of
from service.cli.root import millrace
from tests.pipelines.running import EXECUTION_DATE, Bench

METADATA = """\
# What the shop sells.
name: shop
blocks:
- name: load   # the first one
  type: data_loader
  downstream_blocks: []
"""
LOADER = "from pipelines import data_loader\n\n\n@data_loader\ndef load():\n    return [1]\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in {
        "metadata.yaml": "name: demo\n",
        "io_config.yaml": "default:\n  DUCKDB_DATABASE: shop.duckdb\n  DUCKDB_SCHEMA: main\n",
        "pipelines/shop/metadata.yaml": METADATA,
        "data_loaders/load.py": LOADER,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def new(root: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(millrace, ["new", *words, "--project", str(root)])
    return result.exit_code, result.output


def problems(root: Path) -> list[str]:
    return [str(one) for one in problems_of(Project.load(root)) if one.severity is not Severity.INFO]


def test_block_of_every_template_passes_check(root: Path) -> None:
    templates = own_templates()
    for number, template in enumerate(templates):
        upstream = () if template.type in ("data_loader", "data_integration", "dbt") else ("load",)
        make_block(root, NewBlock(f"b{number}", template, upstream), "shop")

    assert problems(root) == []
    shop = Project.load(root).pipelines["shop"]
    assert len(shop.blocks) + len(shop.conditionals) + len(shop.callbacks) == len(templates) + 1


def test_templates_that_need_nothing_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # as in a worker process
    (root / "data").mkdir()
    (root / "data/orders.csv").write_text("day,amount\n2024-01-02,1.5\n2024-01-02,\n2024-01-02,2\n")
    (root / "data/2024-01-02.done").touch()
    with duckdb.connect(str(root / "shop.duckdb")) as connection:
        connection.execute("CREATE TABLE orders AS SELECT '2024-01-02' AS day, 1.0::double AS amount")
    new(root, "pipeline", "trial")
    for type, name, *more in (
        ("sensor", "wait"),
        ("sensor", "wait_sql", "--language", "sql"),
        ("data_loader", "rows"),
        ("data_loader", "file", "--template", "file"),
        ("data_loader", "chunks", "--template", "chunks"),
        ("data_loader", "table", "--template", "duckdb"),
        ("data_loader", "asked", "--language", "sql", "--upstream", "wait_sql"),
        ("transformer", "kept", "--upstream", "file"),
        ("transformer", "kept_stream", "--template", "stream", "--upstream", "chunks"),
        ("transformer", "sums", "--language", "sql", "--upstream", "kept_stream"),
        ("data_exporter", "out", "--upstream", "kept"),
        ("data_exporter", "out_table", "--template", "duckdb", "--upstream", "table"),
        ("custom", "work", "--upstream", "rows"),
        ("data_loader", "cities", "--template", "dynamic"),
        ("custom", "for_each", "--upstream", "cities"),
        ("conditional", "guard", "--upstream", "kept"),
        ("callback", "hear", "--upstream", "kept"),
    ):
        code, output = new(root, "block", type, name, "--pipeline", "trial", *more)
        assert code == 0, output
    project, bench = Project.load(root), Bench(root)

    facts = RunFacts("run-1", "demo", "trial", None, EXECUTION_DATE)
    result = bench.execute(
        RunSpec(facts, root, project.pipelines["trial"], project.sources_of("trial"), variables={})
    )

    assert problems(root) == []
    assert result.state == "succeeded", result.error
    assert set(bench.listener.states().values()) == {"succeeded"}
    assert (root / "out/orders-2024-01-02.parquet").exists()
    assert "kept is done" in bench.listener.text_of("kept")  # says the callback
    assert bench.listener.report("kept").rows == bench.listener.report("kept_stream").rows == 2


def test_entry_joins_the_pipeline_and_comments_stay(root: Path) -> None:
    code, _ = new(root, "block", "transformer", "clean", "--pipeline", "shop", "--upstream", "load")

    text = (root / "pipelines/shop/metadata.yaml").read_text()
    assert code == 0
    assert text.startswith("# What the shop sells.\nname: shop\nblocks:\n- name: load   # the first one\n")
    shop = Project.load(root).pipelines["shop"]
    assert shop.block("clean").upstream == ("load",)
    assert "downstream_blocks:\n  - clean\n" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("block", "data_loader", "load"), "data_loaders/load.py is there already"),
        (("block", "custom", "load", "--pipeline", "shop"), "declares a block 'load' already"),
        (("block", "custom", "a", "--pipeline", "shp"), "there is no pipeline 'shp' (there are shop)"),
        (("block", "custom", "a", "--pipeline", "shop", "--upstream", "lod"), "no block 'lod'; did you mean"),
        (("block", "custom", "a", "--upstream", "load"), "name the pipeline by --pipeline"),
        (("block", "custom", "../a"), "cannot name a block"),
        (("block", "loader", "a"), "is not one of"),
        (("block", "custom", "a", "--language", "sql"), "there is no template of a custom in sql"),
        (("block", "custom", "a", "--template", "wrk"), "has no template 'wrk'"),
        (("pipeline", "shop"), "pipelines/shop/metadata.yaml is there already"),
        (("pipeline", "../shop"), "cannot name a pipeline"),
    ],
)
def test_wrong_use_writes_nothing(root: Path, words: tuple[str, ...], message: str) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    code, output = new(root, *words)

    assert code == 2
    assert message in output
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_templates_of_the_project_are_listed_and_used(root: Path) -> None:
    folder = root / "custom_templates/blocks/ours"
    folder.mkdir(parents=True)
    (folder / "metadata.yaml").write_text(
        "block_type: data_loader\nlanguage: python\nname: Ours\ndescription: As we do it\n"
        "configuration: {limit: 7}\n"
    )
    (folder / "ours.py").write_text(LOADER)

    _, listed = new(root, "templates", "--json")
    code, _ = new(root, "block", "data_loader", "mine", "--template", "ours", "--pipeline", "shop")
    (folder / "ours.py").unlink()
    broken, message = new(root, "templates")

    assert {
        "name": "ours",
        "type": "data_loader",
        "language": "python",
        "about": "As we do it",
        "own": True,
    } in (json.loads(listed)["items"])
    assert code == 0
    assert (root / "data_loaders/mine.py").read_text() == LOADER
    assert Project.load(root).pipelines["shop"].block("mine").configuration == {"limit": 7}
    assert broken == 1
    assert "its code is missing; write it to custom_templates/blocks/ours/ours.py" in message

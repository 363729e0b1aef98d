"""What real Mage projects hold beside what runs is left out or told, and stops nothing else."""

from __future__ import annotations

import pytest

from pipelines.model import Severity
from tests.pipelines.projects import ProjectFolder


def write_bytes(folder: ProjectFolder, path: str, content: bytes) -> None:
    folder.write(path, "").write_bytes(content)


def said_of(folder: ProjectFolder, severity: Severity) -> str:
    return "\n".join(str(one) for one in folder.load().problems if one.severity is severity)


@pytest.mark.parametrize("kind", ["ai", "extension", "hook", "group", "pipeline"])
def test_blocks_that_are_not_run_are_left_out(folder: ProjectFolder, kind: str) -> None:
    folder.block("load")
    folder.block("clean", "transformer")
    folder.write(
        "pipelines/p/metadata.yaml",
        f"""\
        blocks:
        - {{uuid: load, type: data_loader}}
        - {{uuid: more, type: {kind}, upstream_blocks: [load]}}
        - {{uuid: clean, type: transformer, upstream_blocks: [load, more]}}
        """,
    )

    pipeline = folder.load().pipelines["p"]

    assert [block.name for block in pipeline.blocks] == ["load", "clean"]
    assert pipeline.block("clean").upstream == ("load",)
    assert f"blocks of type '{kind}' are not run" in said_of(folder, Severity.WARNING)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("streaming", "webhook"), ("integration", "data_integration"), ("pyspark", "SparkSession")],
)
def test_pipelines_that_are_not_run_are_one_problem_each(
    folder: ProjectFolder, kind: str, remedy: str
) -> None:
    folder.block("load")
    folder.write("pipelines/good/metadata.yaml", "blocks: [{uuid: load, type: data_loader}]\n")
    folder.write(
        "pipelines/other/metadata.yaml",
        f"type: {kind}\nblocks: [{{uuid: kafka, type: data_loader, language: yaml}}]\n",
    )

    project = folder.load()

    (problem,) = project.problems
    assert (problem.severity, problem.pipeline) == (Severity.ERROR, "other")
    assert remedy in problem.message
    assert set(project.pipelines) == {"good"}


def test_statements_in_the_projects_own_file_are_passed_by(folder: ProjectFolder) -> None:
    folder.write("metadata.yaml", "{% if prod %}\nname: shop\n{% endif %}\nx: {{ env_var('X') }}\n")

    project = folder.load()

    assert project.name == "shop"
    assert "{% if %}" in said_of(folder, Severity.WARNING)
    assert said_of(folder, Severity.ERROR) == ""


def test_marks_line_ends_and_double_keys_of_windows(folder: ProjectFolder) -> None:
    write_bytes(folder, "metadata.yaml", "\ufeffname: shop\r\n".encode())
    write_bytes(folder, "data_loaders/load.py", "\ufeff@data_loader\r\ndef load():\r\n    pass\r\n".encode())
    write_bytes(
        folder,
        "pipelines/p/metadata.yaml",
        b"name: p\r\nname: p\r\nblocks:\r\n- {uuid: load, type: data_loader}\r\n",
    )

    project = folder.load()

    assert project.name == "shop"
    assert set(project.pipelines) == {"p"}
    assert "'name' is there twice" in said_of(folder, Severity.WARNING)


def test_newer_form_of_dynamic_is_read_and_its_other_keys_are_told(folder: ProjectFolder) -> None:
    folder.block("load")
    folder.write(
        "pipelines/p/metadata.yaml",
        """\
        blocks:
        - uuid: load
          type: data_loader
          configuration: {dynamic: {parent: true, child: false, stream: true}}
        """,
    )

    assert folder.load().pipelines["p"].block("load").is_dynamic
    assert "`stream` has no effect" in said_of(folder, Severity.WARNING)


def test_block_that_asks_mage_for_what_is_not_there_leaves_the_others(folder: ProjectFolder) -> None:
    folder.block("load")
    folder.write("custom/tidy.py", "from mage_ai.io.mongodb import MongoDB\n@custom\ndef f(): pass\n")
    folder.write(
        "pipelines/p/metadata.yaml",
        "blocks: [{uuid: load, type: data_loader}, {uuid: tidy, type: custom}]\n",
    )

    assert [block.name for block in folder.load().pipelines["p"].blocks] == ["load", "tidy"]
    assert "mage_ai.io.mongodb is not in Millrace" in said_of(folder, Severity.WARNING)


def test_upstream_block_that_mage_forgot_is_left_out_where_mage_wrote_the_file(folder: ProjectFolder) -> None:
    folder.block("load")
    folder.block("clean", "transformer")
    blocks = """\
        blocks:
        - {{uuid: load, type: data_loader}}
        - {{uuid: clean, type: transformer, upstream_blocks: [load, gone]{more}}}
        """
    folder.write("pipelines/by_hand/metadata.yaml", blocks.format(more=""))
    folder.write(
        "pipelines/by_mage/metadata.yaml", blocks.format(more=", all_upstream_blocks_executed: true")
    )

    project = folder.load()

    assert project.pipelines["by_mage"].block("clean").upstream == ("load",)
    assert set(project.pipelines) == {"by_mage"}
    assert "'gone' is not in the pipeline; it is left out" in said_of(folder, Severity.WARNING)


def test_emptied_timeout_is_none(folder: ProjectFolder) -> None:
    folder.block("load")
    folder.write("pipelines/p/metadata.yaml", "blocks: [{uuid: load, type: data_loader, timeout: ''}]\n")

    assert folder.load().pipelines["p"].block("load").timeout_seconds is None

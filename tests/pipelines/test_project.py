"""A project is read as it is on disk, again only where it changed, and keeps what was good."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.model import BlockType, RetryPolicy
from pipelines.project import Project, ProjectError, content_hash, pipeline_from_sources
from tests.pipelines.projects import ProjectFolder, errors


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path / "My-Shop")


def test_pipeline_is_read_with_its_blocks_in_running_order(folder: ProjectFolder) -> None:
    folder.block("clean", "transformer")
    folder.block("out", "data_exporter")
    folder.pipeline(
        "taxi",
        """\
        description: Trips of a month
        tags: [demo]
        timeout: 1h
        concurrency_config: {pipeline_run_limit: 2}
        checkpoints: {pickle: true}
        variables: {color: yellow}
        inputs:
          month: {type: date, required: true, description: which month}
          limit: integer
        blocks:
        - {name: out, type: data_exporter, upstream_blocks: [clean], memory: 1GB, checkpoint: false}
        - {name: clean, type: transformer, upstream_blocks: [load], timeout: 90}
        - {name: load, type: data_loader, configuration: {year: 2024}}
        """,
    )

    pipeline = folder.load().pipelines["taxi"]

    assert [block.name for block in pipeline.blocks] == ["load", "clean", "out"]
    assert pipeline.block("load").path == "data_loaders/load.py"
    assert pipeline.block("load").configuration == {"year": 2024}
    assert pipeline.block("clean").timeout_seconds == 90
    assert (pipeline.block("out").memory_mb, pipeline.block("out").checkpoint) == (1024, False)
    assert pipeline.block("out").type is BlockType.DATA_EXPORTER
    assert (pipeline.timeout_seconds, pipeline.run_limit, pipeline.allow_pickle) == (3600, 2, True)
    assert [declared.name for declared in pipeline.inputs] == ["month", "limit"]


def test_name_is_that_of_the_settings_else_of_the_folder(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    project = folder.load()
    assert project.name == "my_shop"

    folder.write("metadata.yaml", "name: The Shop\n")

    assert folder.load().name == "the_shop"


def test_retry_of_a_block_wins_over_its_pipeline_and_that_over_the_project(folder: ProjectFolder) -> None:
    folder.write("metadata.yaml", "retry_config: {retries: 3, delay: 1, max_delay: 9}\n")
    folder.block("other")
    folder.pipeline(
        "taxi",
        """\
        retry_config: {delay: 2}
        blocks:
        - {name: load, type: data_loader, retry_config: {retries: 5, exponential_backoff: false}}
        - {name: other, type: data_loader}
        """,
    )

    pipeline = folder.load().pipelines["taxi"]

    assert pipeline.block("other").retry == RetryPolicy(3, 2.0, 9.0)
    assert pipeline.block("load").retry == RetryPolicy(5, 2.0, 9.0, exponential=False)


def test_sources_make_the_same_pipeline_elsewhere(folder: ProjectFolder) -> None:
    folder.write("metadata.yaml", "name: shop\nretry_config: {retries: 2}\n")
    folder.pipeline("taxi")
    folder.triggers("taxi", "triggers:\n- {name: hook, type: webhook}\n")
    project = folder.load()

    sources = project.sources_of("taxi")

    assert set(sources) == {"metadata.yaml", "pipelines/taxi/metadata.yaml", "data_loaders/load.py"}
    assert pipeline_from_sources("taxi", sources) == replace(project.pipelines["taxi"], triggers=())
    assert content_hash(sources) == content_hash(dict(reversed(sources.items())))


def test_sources_that_make_no_pipeline_say_why(folder: ProjectFolder) -> None:
    with pytest.raises(ProjectError, match=r"taxi/metadata.yaml:1: error: .*missing"):
        pipeline_from_sources("taxi", {"pipelines/taxi/metadata.yaml": "blocks: [{name: a, type: custom}]"})


def test_refresh_says_whether_anything_changed(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    project = folder.load()
    before = project.pipelines["taxi"]

    assert project.refresh() is False
    assert project.pipelines["taxi"] is before

    folder.write(
        "data_loaders/load.py", "from pipelines import data_loader\n@data_loader\ndef run(): return 2\n"
    )
    assert project.refresh() is True
    assert "return 2" in project.sources_of("taxi")["data_loaders/load.py"]
    assert project.refresh() is False


def test_change_of_one_pipeline_leaves_the_others_as_they_are(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    folder.pipeline("shop")
    project = folder.load()
    reads = project._state.reads  # that nothing is parsed again shows only inside

    folder.write(
        "pipelines/shop/metadata.yaml", "description: new\nblocks:\n- {name: load, type: data_loader}\n"
    )
    project.refresh()

    assert project._state.reads["taxi"] is reads["taxi"]
    assert project._state.reads["shop"] is not reads["shop"]


def test_change_within_the_same_time_stamp_and_size_is_seen(folder: ProjectFolder) -> None:
    folder.pipeline("taxi", "description: aaa\nblocks:\n- {name: load, type: data_loader}\n")
    project = folder.load()
    place = folder.root / "pipelines/taxi/metadata.yaml"
    stamp = place.stat().st_mtime_ns

    place.write_text(place.read_text().replace("aaa", "bbb"))
    os.utime(place, ns=(stamp, stamp))
    project.refresh()

    assert project.pipelines["taxi"].description == "bbb"


def test_broken_pipeline_keeps_its_last_good_version_until_it_is_mended(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    folder.pipeline("shop")
    project = folder.load()
    good, sources = project.pipelines["taxi"], project.sources_of("taxi")

    folder.write("pipelines/taxi/metadata.yaml", "blocks: [\n")
    assert project.refresh() is True
    assert project.pipelines["taxi"] == good
    assert project.sources_of("taxi") == sources
    assert [line for line, _ in errors(project, "taxi")] == [2]
    assert "shop" in project.pipelines

    folder.pipeline("taxi", "description: mended\nblocks:\n- {name: load, type: data_loader}\n")
    project.refresh()
    assert project.pipelines["taxi"].description == "mended"
    assert not project.problems


def test_syntax_error_in_a_block_keeps_the_code_that_was_good(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    project = folder.load()
    good = project.sources_of("taxi")

    folder.write("data_loaders/load.py", "def broken(:\n")
    project.refresh()

    assert project.sources_of("taxi") == good
    assert "syntax error" in errors(project, "load.py")[0][1]


def test_broken_trigger_keeps_its_last_good_version_and_the_others_change(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    folder.triggers(
        "taxi", "triggers:\n- {name: a, type: schedule, every: 1m}\n- {name: b, type: schedule, every: 1m}\n"
    )
    project = folder.load()

    folder.triggers(
        "taxi",
        "triggers:\n- {name: a, type: schedule, every: soon}\n- {name: b, type: schedule, every: 2m}\n",
    )
    project.refresh()

    every = {trigger.name: trigger.spec["every"] for trigger in project.pipelines["taxi"].triggers}
    assert every == {"a": "1m", "b": "2m"}
    assert len(errors(project)) == 1


def test_unreadable_triggers_file_keeps_all_triggers(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    folder.triggers("taxi", "triggers:\n- {name: a, type: webhook}\n")
    project = folder.load()

    folder.triggers("taxi", "triggers: [\n")
    project.refresh()

    assert [trigger.name for trigger in project.pipelines["taxi"].triggers] == ["a"]


def test_broken_project_settings_keep_the_last_good_ones(folder: ProjectFolder) -> None:
    folder.write("metadata.yaml", "name: shop\nretry_config: {retries: 4}\n")
    folder.pipeline("taxi")
    project = folder.load()

    folder.write("metadata.yaml", "name: [\n")
    project.refresh()

    assert project.name == "shop"
    assert project.pipelines["taxi"].block("load").retry.retries == 4
    assert "retries: 4" in project.sources_of("taxi")["metadata.yaml"]


def test_removed_pipeline_is_gone(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    project = folder.load()

    (folder.root / "pipelines/taxi/metadata.yaml").unlink()
    project.refresh()

    assert not project.pipelines


def test_missing_folder_is_a_project_without_pipelines(tmp_path: Path) -> None:
    project = Project.load(tmp_path / "nothing")

    assert (dict(project.pipelines), project.problems) == ({}, ())


def test_reading_a_project_loads_no_data_library(folder: ProjectFolder) -> None:
    folder.pipeline("taxi")
    code = (
        "import sys; from pathlib import Path; import pipelines.variables;"
        "from pipelines.project import Project;"
        f"assert Project.load(Path({str(folder.root)!r})).pipelines;"
        "print(sorted({'pandas', 'numpy', 'pyarrow', 'duckdb', 'google'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

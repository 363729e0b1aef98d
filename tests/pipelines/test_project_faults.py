"""Everything wrong with a project is told at once, each fault with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.model import Severity
from tests.pipelines.projects import ProjectFolder, errors, warnings_of

LOAD = "blocks:\n- {name: load, type: data_loader}\n"


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    folder = ProjectFolder(tmp_path / "shop")
    folder.pipeline("good")
    folder.block("clean", "transformer")
    folder.block("out", "data_exporter")
    return folder


def test_a_dozen_faults_are_told_together_and_the_good_pipeline_runs(folder: ProjectFolder) -> None:
    folder.write("io_config.yaml", "default:\n  PASSWORD: \"{{ env_var('X' }}\"\n")
    folder.write("data_loaders/broken.py", "x = 1\ndef f(:\n")
    folder.write("data_loaders/shell.py", "import os\n!pip install x\n")
    folder.write("data_loaders/query.sql", "select *\nfrom {{ df_1 \n")
    folder.pipeline("a_yaml", "blocks:\n- {name: load\n- x\n")
    folder.pipeline(
        "b_cycle",
        """\
        blocks:
        - {name: load, type: data_loader, upstream_blocks: [out]}
        - {name: clean, type: transformer, upstream_blocks: [load]}
        - {name: out, type: data_exporter, upstream_blocks: [clean]}
        """,
    )
    folder.pipeline("c_upstream", LOAD + "- name: clean\n  type: transformer\n  upstream_blocks:\n  - laod\n")
    folder.pipeline("d_missing", LOAD + "- {name: nowhere, type: transformer}\n")
    folder.pipeline("e_twice", LOAD + "- {name: load, type: data_loader}\n")
    folder.pipeline("f_type", "blocks:\n- {name: load, type: data_loder}\n- {name: out, type: sensor}\n")
    folder.pipeline(
        "g_code", "blocks:\n- {name: broken, type: data_loader}\n- {name: shell, type: data_loader}\n"
    )
    folder.pipeline("h_sql", "blocks:\n- {name: query, type: data_loader, language: sql}\n")
    folder.pipeline(
        "i_policy", "retry_config: {retries: many}\ntimeout: soon\ninputs: {day: {type: dat}}\n" + LOAD
    )
    folder.pipeline("j_trigger", LOAD)
    folder.triggers(
        "j_trigger", "triggers:\n- {name: t, type: schedule, cron: '61 * * * *', timezone: Mars/Base}\n"
    )

    project = folder.load()

    told = {(problem.file, problem.line) for problem in project.problems}
    assert told == {
        ("io_config.yaml", 2),
        ("data_loaders/broken.py", 2),
        ("data_loaders/shell.py", 2),
        ("data_loaders/query.sql", 2),
        ("pipelines/a_yaml/metadata.yaml", 2),
        ("pipelines/b_cycle/metadata.yaml", 2),
        ("pipelines/c_upstream/metadata.yaml", 6),
        ("pipelines/d_missing/metadata.yaml", 3),
        ("pipelines/e_twice/metadata.yaml", 3),
        ("pipelines/f_type/metadata.yaml", 2),
        ("pipelines/f_type/metadata.yaml", 3),
        ("pipelines/i_policy/metadata.yaml", 1),
        ("pipelines/i_policy/metadata.yaml", 2),
        ("pipelines/i_policy/metadata.yaml", 3),
        ("pipelines/j_trigger/triggers.yaml", 2),
    }
    assert {problem.severity for problem in project.problems} == {Severity.ERROR}
    assert set(project.pipelines) == {"good", "j_trigger"}


def test_faults_of_declaration_and_code_of_one_pipeline_are_told_together(folder: ProjectFolder) -> None:
    folder.write("data_loaders/broken.py", "def f(:\n")
    folder.pipeline(
        "both", "timeout: soon\nblocks:\n- {name: broken, type: data_loader, upstream_blocks: [broken]}\n"
    )

    files = [problem.file for problem in folder.load().problems]

    assert files.count("pipelines/both/metadata.yaml") == 2
    assert "data_loaders/broken.py" in files


def test_cycle_names_its_blocks(folder: ProjectFolder) -> None:
    folder.pipeline(
        "cycle",
        LOAD
        + "- {name: clean, type: transformer, upstream_blocks: [load, out]}\n"
        + "- {name: out, type: data_exporter, upstream_blocks: [clean]}\n",
    )

    [(line, message)] = errors(folder.load())

    assert line == 3
    assert "clean <- out <- clean" in message


def test_cycle_through_a_block_without_code_is_told_beside_the_missing_file(folder: ProjectFolder) -> None:
    folder.pipeline(
        "cycle",
        "blocks:\n- {name: load, type: data_loader, upstream_blocks: [lost]}\n"
        "- {name: lost, type: transformer, upstream_blocks: [load]}\n",
    )

    told = errors(folder.load())

    assert [line for line, _ in told] == [2, 3]
    assert "load <- lost <- load" in told[0][1]
    assert "its code is missing" in told[1][1]


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("{type: data_loader}", "it has no `name`"),
        ("{name: load}", "it has no `type`"),
        ("{name: ../../etc/passwd, type: custom}", "the name may have"),
        ("{name: load, type: data_loader, language: yaml}", "cannot be written in 'yaml'"),
        ("{name: load, type: data_loader, language: pyton}", "did you mean 'python'"),
        ("{name: load, type: data_loader, timeout: -1}", "no span of time"),
        ("{name: load, type: data_loader, memory: lots}", "no amount of memory"),
        ("{name: load, type: data_loader, checkpoint: maybe}", "must be true or false"),
        ("{name: load, type: data_loader, retry_config: {retries: 1.5}}", "must be a whole number"),
        (
            "{name: load, type: data_loader, configuration: {file_path: ../../x.py}}",
            "leads out of the project",
        ),
        ("{name: load, type: callback}", "stands under `callbacks:` of the pipeline"),
        ("{name: load, type: data_loader, upstream_blocks: {a: b}}", "must be a list of names"),
        (
            "{name: q, type: data_loader, language: sql, configuration: {data_provider: bigquerry}}",
            "'bigquerry' is unknown",
        ),
        ("just text", "must be a mapping"),
    ],
)
def test_wrong_block_is_told_in_its_line(folder: ProjectFolder, block: str, sentence: str) -> None:
    folder.pipeline("bad", f"description: x\nblocks:\n- {block}\n")

    told = errors(folder.load())

    assert any(line == 3 and sentence in message for line, message in told), told


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ("{export_write_policy: truncate}", "`export_write_policy` must be one of"),
        ("{export_write_policy: merge}", "`merge` needs `unique_constraints`"),
        ("{unique_conflict_method: skip}", "must be update or ignore"),
        ("{use_raw_sql: 'false'}", "`use_raw_sql` must be true or false"),
        ("{limit_in_pipeline_run: many}", "must be a whole number"),
        ("{data_provider: oracle}", "'oracle' is unknown"),
        ("{upstream_block_configuration: {load: {table_name: a.b}}}", "its rows are {{ df_1 }}"),
    ],
)
def test_wrong_configuration_of_sql_is_told(folder: ProjectFolder, configuration: str, sentence: str) -> None:
    folder.write("data_loaders/q.sql", "select 1")
    block = f"{{name: q, type: data_loader, language: sql, configuration: {configuration}}}"
    folder.pipeline("bad", f"blocks:\n- {block}\n")

    told = [(problem.line, problem.message) for problem in folder.load().problems]

    assert any(line == 2 and sentence in message for line, message in told), told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("type: streaming\n" + LOAD, "'streaming' are not run;"),
        ("callbacks: [{name: x}]\n" + LOAD, "its code is missing"),
        ("blocks: none\n", "`blocks` must be a list"),
        ("- a\n", "must be a mapping"),
        ("", "the file is empty"),
        ("uuid: good\n" + LOAD, "name of another pipeline"),
        ("concurrency_config: {pipeline_run_limit: 0}\n" + LOAD, "1 or more"),
        ("concurrency_config: {on_pipeline_run_limit_reached: drop}\n" + LOAD, "must be one of wait, skip"),
        ("throttle: {limit: 3}\n" + LOAD, "it needs `per`"),
        ("inputs: {n: {type: integer, default: x}}\n" + LOAD, "`default` must be a whole number"),
        ("variables: {{ env_var('X') }}\n" + LOAD, "needs quotes"),
        (
            "inputs: {n: integer}\nvariables: {n: many}\n" + LOAD,
            "the variable 'n' must be a whole number, not 'many', as its input says",
        ),
    ],
)
def test_wrong_pipeline_is_told(folder: ProjectFolder, text: str, sentence: str) -> None:
    folder.pipeline("bad", "placeholder")
    folder.write("pipelines/bad/metadata.yaml", text)

    project = folder.load()

    assert any(sentence in message for _, message in errors(project)), project.problems
    assert set(project.pipelines) == {"good"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extensions: {great_expectations: {blocks: [{name: x}]}}", "write such checks as @test functions"),
        ("notification_config: {alert_on: [trigger_failure]}", "nobody is told"),
        ("overrides: {prod: {}}", "`overrides` are not applied"),
    ],
)
def test_what_a_pipeline_does_not_get_yet_is_warned_of(
    folder: ProjectFolder, text: str, sentence: str
) -> None:
    folder.pipeline("hopeful", f"{text}\n{LOAD}")

    project = folder.load()

    [message] = warnings_of(project)
    assert sentence in message
    assert "hopeful" in project.pipelines


def test_file_that_is_no_text_is_told(folder: ProjectFolder) -> None:
    folder.pipeline("binary")
    (folder.root / "pipelines/binary/metadata.yaml").write_bytes(b"\xff\xfe\x00")

    assert errors(folder.load()) == [(1, "pipeline 'binary' cannot be read: it is not UTF-8 text")]


def test_link_out_of_the_project_is_not_followed(
    folder: ProjectFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.py"
    secret.write_text("@data_loader\ndef f(): pass\n")
    (folder.root / "data_loaders/link.py").symlink_to(secret)
    folder.pipeline("linked", "blocks:\n- {name: link, type: data_loader}\n")

    [(_, message)] = errors(folder.load())

    assert "outside of the project" in message


def test_folder_that_cannot_name_a_pipeline_is_told(folder: ProjectFolder) -> None:
    folder.write("pipelines/two words/metadata.yaml", LOAD)

    [(_, message)] = errors(folder.load())

    assert "cannot name a pipeline" in message


def test_unknown_key_is_told_once_however_often_it_is_there(folder: ProjectFolder) -> None:
    for name in ("a", "b"):
        folder.pipeline(name, "colour: red\nblocks:\n- {name: load, type: data_loader, colour: red}\n")

    project = folder.load()

    assert sorted(warnings_of(project)) == [
        "unknown key 'colour' of a block; it has no effect; did you mean 'color'?",
        "unknown key 'colour' of a pipeline; it has no effect",
    ]
    assert {"a", "b"} <= set(project.pipelines)


def test_two_webhooks_cannot_have_one_path(folder: ProjectFolder) -> None:
    for name in ("a", "b"):
        folder.pipeline(name)
        folder.triggers(name, "triggers:\n- {name: hook, type: webhook, path: /webhooks/shared}\n")

    project = folder.load()

    [(_, message)] = errors(project, "b/triggers.yaml")
    assert "belongs to trigger 'hook' of pipeline 'a'" in message
    assert [len(project.pipelines[name].triggers) for name in ("a", "b")] == [1, 0]


def test_profile_that_is_not_there_is_a_warning(folder: ProjectFolder) -> None:
    folder.write("io_config.yaml", "default: {}\n")
    folder.write("data_loaders/query.sql", "select 1\n")
    folder.pipeline(
        "sql",
        "blocks:\n- name: query\n  type: data_loader\n  language: sql\n"
        "  configuration: {data_provider_profile: defalt}\n",
    )

    project = folder.load()

    assert "did you mean 'default'?" in warnings_of(project)[0]
    assert "sql" in project.pipelines


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ("{name: t, type: sensor, sensor: sql, options: {profile: shop, query: SELECT 1}}", "profile 'shop'"),
        ("{name: t, type: expectation, every: 1h, expect: {trigger: orders}}", "no trigger 'etl/orders'"),
        ("{name: t, type: expectation, every: 1h, expect: {trigger: etl/b}}", "no trigger 'etl/b'"),
    ],
)
def test_name_that_nothing_has_is_a_warning(folder: ProjectFolder, trigger: str, told: str) -> None:
    folder.pipeline("etl", LOAD)
    folder.triggers("etl", f"triggers:\n- {trigger}\n")

    (message,) = warnings_of(folder.load())

    assert told in message


INPUTS = "inputs: {month: {type: date, required: true}, size: {type: integer, default: 1}}\n" + LOAD


@pytest.mark.parametrize(
    ("trigger", "sentence"),
    [
        ("{name: t, type: schedule, every: 1h}", "trigger 't': input 'month' is required"),
        ("{name: t, type: webhook, variables: {size: 2}}", "trigger 't': input 'month' is required"),
        (
            "{name: t, type: webhook, variables: {month: '{{ event.data.m }}', size: big}}",
            "trigger 't': input 'size' must be a whole number, not 'big'",
        ),
        (
            "{name: t, schedule_type: time, schedule_interval: '@daily', status: active}",
            "'month' is required",
        ),
    ],
)
def test_trigger_that_no_run_could_come_of_is_told(
    folder: ProjectFolder, trigger: str, sentence: str
) -> None:
    folder.pipeline("typed", INPUTS)
    folder.triggers("typed", f"triggers:\n- {trigger}\n")

    [(line, message)] = errors(folder.load())

    assert line == 2
    assert sentence in message


@pytest.mark.parametrize(
    "trigger",
    [
        "{name: t, type: webhook}",
        "{name: t, type: webhook, variables: {month: '{{ event.data.month }}'}}",
        "{name: t, type: schedule, every: 1h, variables: {month: 2024-01-31}, execution_date: 1706659200}",
        "{name: t, type: schedule, every: 1h, enabled: false}",
        "{name: t, schedule_type: api, status: active}",
    ],
)
def test_trigger_that_can_give_the_inputs_is_fine(folder: ProjectFolder, trigger: str) -> None:
    folder.pipeline("typed", INPUTS)
    folder.triggers("typed", f"triggers:\n- {trigger}\n")

    assert folder.load().problems == ()

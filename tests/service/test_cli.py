"""The command line as a user has it: each command is a real process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.store import refused
from service.store.refused import NewRefusal
from service.store.session import Commit
from tests.parts.service import MILLRACE, clean_environment, run_millrace
from tests.parts.stores import opened_store, sqlite_url
from tests.parts.waiting import wait_until

Completed = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by `init`, with one run. Tests that share it only add to it."""
    folder = tmp_path_factory.mktemp("cli")
    assert run_millrace("init", "shop", cwd=folder).returncode == 0
    ran = run_millrace("run", "hello", cwd=folder / "shop")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder / "shop"


@pytest.fixture
def millrace(shop: Path) -> Callable[..., Completed]:
    return lambda *arguments, **options: run_millrace(*arguments, cwd=options.pop("cwd", shop), **options)


def json_of(completed: Completed) -> Any:
    assert completed.stdout, completed.stderr
    return json.loads(completed.stdout)


@pytest.fixture(scope="module")
def run_id(shop: Path) -> str:
    """The id of the run that the project began with."""
    listed = json_of(run_millrace("runs", "list", "--json", "--limit", "1000", cwd=shop))
    oldest: str = listed["items"][-1]["id"]
    return oldest


def write_pipeline(project: Path, name: str, source: str, *, more: str = "") -> None:
    """Add a pipeline of one block."""
    (project / "pipelines" / name).mkdir(parents=True)
    (project / "pipelines" / name / "metadata.yaml").write_text(
        f"name: {name}\ntype: python\n{more}blocks:\n"
        f"- name: {name}_block\n  type: data_loader\n  language: python\n  upstream_blocks: []\n"
    )
    (project / "data_loaders").mkdir(exist_ok=True)
    (project / "data_loaders" / f"{name}_block.py").write_text(source)


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """An empty project of the test's own."""
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "metadata.yaml").write_text("name: lone\n")
    return tmp_path / "lone"


def test_help_names_every_command_and_loads_none(millrace: Callable[..., Completed]) -> None:
    helped = millrace("--help")

    assert helped.returncode == 0
    for name in ("init", "start", "run", "check", "test", "pipelines", "trigger", "runs", "events", "db"):
        assert f"  {name} " in helped.stdout


def test_a_command_takes_no_code_from_the_folder_it_is_called_in(shop: Path, tmp_path: Path) -> None:
    """As a shell starts it: other tests have the code of commands loaded before they come to a folder."""
    for name in ("click", "json", "service", "pipelines"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not ours')\n")

    listed = subprocess.run(
        [*MILLRACE, "runs", "list", "--project", str(shop), "--json"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert json_of(listed)["items"]


def test_unknown_command_is_wrong_use(millrace: Callable[..., Completed]) -> None:
    refused = millrace("strat")

    assert refused.returncode == 2
    assert "Commands are init, start" in refused.stderr


def test_init_never_overwrites(millrace: Callable[..., Completed], shop: Path) -> None:
    again = millrace("init")

    assert again.returncode == 2
    assert "metadata.yaml" in again.stderr


def test_run_prints_a_line_per_change_without_a_terminal(millrace: Callable[..., Completed]) -> None:
    ran = millrace("run", "hello")

    lines = ran.stdout.splitlines()
    assert lines[0].startswith("run ")
    assert [line.split(" attempt")[0] for line in lines if "succeeded attempt" in line] == [
        "block load_orders succeeded",
        "block sum_per_customer succeeded",
        "block write_totals succeeded",
    ]
    assert lines[-1].startswith("run succeeded took=")
    assert "\x1b" not in ran.stdout


def test_run_takes_variables_and_answers_with_json(millrace: Callable[..., Completed], shop: Path) -> None:
    ran = millrace("run", "hello", "--json", "--var", 'orders=[{"customer": "Bo", "amount": 4}]')

    run = json_of(ran)
    assert run["state"] == "succeeded"
    assert run["variables"]["orders"] == [{"customer": "Bo", "amount": 4}]
    assert run["blocks"][0]["rows"] == 1


def test_run_takes_the_execution_date(millrace: Callable[..., Completed]) -> None:
    run = json_of(millrace("run", "hello", "--json", "--execution-date", "2024-01-31T05:00+01:00"))

    assert run["execution_date"] == "2024-01-31T04:00:00Z"


def test_run_of_one_block_with_its_upstream(millrace: Callable[..., Completed]) -> None:
    run = json_of(millrace("run", "hello", "--block", "sum_per_customer", "--with-upstream", "--json"))

    assert run["selection"] == ["load_orders", "sum_per_customer"]
    assert run["state"] == "succeeded"


def test_failed_run_exits_with_1_and_says_how_to_retry(lone: Path) -> None:
    write_pipeline(
        lone,
        "broken",
        "from pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    raise OSError('no table')\n",
    )

    failed = run_millrace("run", "broken", cwd=lone)

    assert failed.returncode == 1
    assert "block broken_block failed" in failed.stdout
    assert "no table" in failed.stdout
    assert "millrace runs retry " in failed.stderr


def test_interrupted_run_is_cancelled(lone: Path) -> None:
    source = (
        "import time\nfrom pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    time.sleep(60)\n"
    )
    write_pipeline(lone, "slow", source)
    output = lone / "output.txt"
    with output.open("wb") as stream:
        running = subprocess.Popen(
            [*MILLRACE, "run", "slow"], cwd=lone, env=clean_environment(), stdout=stream, stderr=stream
        )
    wait_until(lambda: "slow_block running" in output.read_text(), seconds=30, what="a running block")

    running.send_signal(signal.SIGINT)

    assert running.wait(30) == 130, output.read_text()
    listed = json_of(run_millrace("runs", "list", "--json", cwd=lone))
    assert [run["state"] for run in listed["items"]] == ["cancelled"]


def test_runs_can_be_listed_shown_and_watched(millrace: Callable[..., Completed], run_id: str) -> None:
    assert run_id in millrace("runs", "list", "--limit", "1000").stdout
    assert "sum_per_customer" in millrace("runs", "show", run_id).stdout
    assert millrace("runs", "watch", run_id).stdout.splitlines()[-1].startswith("run succeeded")


def test_runs_are_listed_by_pages(millrace: Callable[..., Completed]) -> None:
    first = json_of(millrace("runs", "list", "--json", "--limit", "1"))
    second = json_of(millrace("runs", "list", "--json", "--cursor", first["items"][0]["id"]))

    assert first["next"] in (first["items"][0]["id"], None)
    assert first["items"][0]["id"] not in [run["id"] for run in second["items"]]


def test_log_of_a_run_names_its_block(millrace: Callable[..., Completed], run_id: str) -> None:
    lines = [
        json.loads(line)
        for line in millrace("runs", "logs", run_id, "--json", "--block", "write_totals").stdout.splitlines()
    ]

    assert any("out/totals.csv" in line["text"] for line in lines)


def test_log_of_a_block_that_the_run_does_not_have_is_wrong_use(
    millrace: Callable[..., Completed], run_id: str
) -> None:
    refused = millrace("runs", "logs", run_id, "--block", "nope")

    assert refused.returncode == 2
    assert "has no block 'nope'; it has: load_orders" in refused.stderr


def test_empty_list_tells_no_runs_from_none_that_fit(millrace: Callable[..., Completed], lone: Path) -> None:
    assert "No run fits" in millrace("runs", "list", "--pipeline", "nope").stderr
    assert "No event fits" in millrace("events", "list", "--source", "nope").stderr
    assert "No runs yet" in run_millrace("runs", "list", cwd=lone).stderr
    assert "No events yet" in run_millrace("events", "list", cwd=lone).stderr


def test_unknown_run_is_wrong_use(millrace: Callable[..., Completed]) -> None:
    refused = millrace("runs", "show", "0190163d-8694-739b-aea5-966c26f8ad91")

    assert refused.returncode == 2
    assert "there is no run" in refused.stderr


def test_finished_run_cannot_be_cancelled(millrace: Callable[..., Completed], run_id: str) -> None:
    refused = millrace("runs", "cancel", run_id)

    assert refused.returncode == 1
    assert "it is succeeded" in refused.stderr


def test_check_json_has_the_documented_shape(lone: Path) -> None:
    write_pipeline(
        lone, "good", "from pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    return 1\n"
    )
    write_pipeline(lone, "bad", "def load(:\n")

    checked = run_millrace("check", "--json", cwd=lone)

    report = json_of(checked)
    assert checked.returncode == 1
    assert {line["name"]: line["ok"] for line in report["pipelines"]} == {"good": True, "bad": False}
    problem = next(problem for problem in report["problems"] if problem["severity"] == "error")
    assert problem["file"] == "data_loaders/bad_block.py"
    assert problem["line"] == 1
    assert problem["message"]


def test_check_of_a_good_project_exits_with_0(millrace: Callable[..., Completed]) -> None:
    checked = millrace("check")

    assert checked.returncode == 0
    assert "1 of 1 pipelines can run" in checked.stdout


def test_check_tells_a_pipeline_with_a_wrong_trigger_from_one_that_cannot_run(lone: Path) -> None:
    write_pipeline(
        lone, "good", "from pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    return 1\n"
    )
    (lone / "pipelines" / "good" / "triggers.yaml").write_text(
        'triggers:\n- {name: t, type: schedule, cron: "99 * * * *"}\n'
    )

    checked = run_millrace("check", cwd=lone)

    assert checked.returncode == 1
    assert "pipelines/good/triggers.yaml:2" in checked.stdout
    assert "1 of 1 pipelines can run" in checked.stdout


def test_test_reports_tests_and_leaves_no_state(tmp_path: Path) -> None:
    run_millrace("init", "fresh", cwd=tmp_path)

    tested = run_millrace("test", cwd=tmp_path / "fresh")

    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "1 of 1 pipelines passed" in tested.stdout
    assert not (tmp_path / "fresh" / ".millrace").exists()
    assert not (tmp_path / "fresh" / "out").exists()  # the exporter was left out


def test_test_exits_with_1_when_a_test_fails(lone: Path) -> None:
    write_pipeline(
        lone,
        "tested",
        "from pipelines import data_loader, test\n\n@data_loader\ndef load(**_):\n    return 1\n\n"
        "@test\ndef is_two(output):\n    assert output == 2, 'it is not two'\n",
    )

    tested = run_millrace("test", "tested", cwd=lone)

    assert tested.returncode == 1
    assert "it is not two" in tested.stdout


def test_pipelines_show_documents_inputs_and_webhooks(millrace: Callable[..., Completed]) -> None:
    shown = millrace("pipelines", "show", "hello").stdout

    assert "orders" in shown
    assert "/webhooks/hello/orders" in shown
    assert "Authorization: Bearer" in shown


def test_token_of_a_webhook_stays_the_same(millrace: Callable[..., Completed]) -> None:
    tokens = [
        json_of(millrace("pipelines", "show", "hello", "--json"))["triggers"][0]["token"] for _ in range(2)
    ]

    assert tokens[0] == tokens[1]
    assert len(tokens[0]) >= 32


def test_trigger_is_paused_and_resumed_with_its_held_event(millrace: Callable[..., Completed]) -> None:
    data = '{"orders": [{"customer": "Ada", "amount": 1}]}'
    assert millrace("trigger", "pause", "orders").returncode == 0

    held = json_of(millrace("trigger", "fire", "hello/orders", "--data", data, "--json"))
    assert held["outcome"] == "held"
    assert "paused" in millrace("trigger", "list").stdout

    resumed = json_of(millrace("trigger", "resume", "orders", "--json"))
    assert resumed["released"] == 1
    shown = json_of(millrace("events", "show", held["event_id"], "--json"))
    assert shown["outcome"] == "ran"
    assert len(shown["run_ids"]) == 1


def test_fired_event_starts_nothing_twice(millrace: Callable[..., Completed]) -> None:
    fire = ("trigger", "fire", "orders", "--key", "same", "--data", '{"orders": []}', "--json")

    first, second = json_of(millrace(*fire)), json_of(millrace(*fire))

    assert second == {**first, "duplicate": True}


def test_events_are_listed(millrace: Callable[..., Completed]) -> None:
    fired = json_of(millrace("trigger", "fire", "orders", "--data", '{"orders": []}', "--json"))

    assert fired["event_id"] in millrace("events", "list").stdout


def test_refused_deliveries_are_listed_with_their_reason(lone: Path) -> None:
    with opened_store(sqlite_url(lone / ".millrace"), lone / ".millrace") as store:
        at = datetime(2024, 1, 31, tzinfo=UTC)
        new = [NewRefusal(at, f"webhook:a/{number}", "not authentic", "203.0.113.9") for number in range(3)]
        store.write(Commit.REFUSE, lambda tx: refused.record(tx, new))

    first = json_of(run_millrace("events", "refused", "--limit", "2", "--json", cwd=lone))
    second = json_of(run_millrace("events", "refused", "--cursor", first["next"], "--json", cwd=lone))

    assert [item["road"] for item in (*first["items"], *second["items"])] == [
        "webhook:a/2",
        "webhook:a/1",
        "webhook:a/0",
    ]
    assert first["items"][0]["reason"] == "not authentic"
    assert "not authentic" in run_millrace("events", "refused", cwd=lone).stdout


def test_triggers_of_a_further_project_are_named_as_they_are_asked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_millrace("init", name, cwd=tmp_path)
    both = ("--project", "one", "--project", "two")

    listed = run_millrace("trigger", "list", *both, cwd=tmp_path)
    paused = run_millrace("trigger", "pause", "two/hello/orders", *both, cwd=tmp_path)
    unknown = run_millrace("trigger", "pause", "nope", *both, cwd=tmp_path)

    assert "two/hello/orders" in listed.stdout
    assert paused.returncode == 0
    assert "there are: hello/orders, two/hello/orders" in unknown.stderr


def test_next_times_of_a_schedule(lone: Path) -> None:
    write_pipeline(
        lone, "good", "from pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    return 1\n"
    )
    (lone / "pipelines" / "good" / "triggers.yaml").write_text(
        'triggers:\n- name: nightly\n  type: schedule\n  cron: "0 5 * * *"\n  timezone: Europe/Berlin\n'
    )

    shown = run_millrace("trigger", "next", "nightly", "-n", "2", "--after", "2024-03-30", cwd=lone)

    first, second = shown.stdout.splitlines()[1:]
    assert first.split() == ["2024-03-30T04:00:00Z", "Sat", "2024-03-30", "05:00:00", "CET"]
    assert second.startswith("2024-03-31T03:00:00Z  Sun 2024-03-31 05:00:00 CEST")
    assert second.endswith("clocks go forward 60 min at 02:00")


def test_db_tells_its_state_and_migrates_again_without_harm(millrace: Callable[..., Completed]) -> None:
    assert millrace("db", "migrate").returncode == 0

    status = json_of(millrace("db", "status", "--json"))

    assert status["runs"]["succeeded"] >= 1


def test_db_prune_deletes_nothing_that_is_young(millrace: Callable[..., Completed], run_id: str) -> None:
    assert millrace("db", "prune").returncode == 0
    assert millrace("runs", "show", run_id).returncode == 0


def test_reader_that_stops_early_is_no_error(shop: Path) -> None:
    piped = subprocess.run(
        f"{' '.join(MILLRACE)} pipelines list --json | head -c 1",
        shell=True,
        cwd=shop,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert piped.stderr == ""

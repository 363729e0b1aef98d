"""Wrong use of the command line: a sentence that says what to do, exit code 2, and never a traceback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.service import run_millrace

Completed = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by `init`. Nothing here changes it."""
    folder = tmp_path_factory.mktemp("cli")
    assert run_millrace("init", "shop", cwd=folder).returncode == 0
    return folder / "shop"


@pytest.fixture
def millrace(shop: Path) -> Callable[..., Completed]:
    return lambda *arguments, **options: run_millrace(*arguments, cwd=options.pop("cwd", shop), **options)


def test_init_in_a_folder_of_any_name_makes_a_project_that_is_read(tmp_path: Path) -> None:
    made = run_millrace("init", "1: a b", cwd=tmp_path)

    assert "cd '1: a b'" in made.stdout
    assert json.loads(run_millrace("check", "--json", cwd=tmp_path / "1: a b").stdout)["problems"] == []


def test_init_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = run_millrace("init", "file/shop", cwd=tmp_path)

    assert refused.returncode == 1
    assert "cannot write" in refused.stderr


@pytest.mark.parametrize("arguments", [("check",), ("runs", "list"), ("run", "hello"), ("start",)])
def test_folder_without_a_project_is_refused_and_left_alone(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    refused = run_millrace(*arguments, cwd=tmp_path)

    assert refused.returncode == 2
    assert "millrace init" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_project_one_floor_down_is_pointed_at(shop: Path, tmp_path: Path) -> None:
    refused = run_millrace("check", cwd=shop.parent)
    (tmp_path / "metadata.yaml").write_text("name: all\n")
    (tmp_path / "training" / "pipelines").mkdir(parents=True)
    checked = run_millrace("check", cwd=tmp_path)

    assert refused.returncode == 2
    assert f"{shop} would do" in refused.stderr.replace("\n", " ")
    assert checked.returncode == 0
    assert "0 of 0 pipelines can run; but" in checked.stdout
    assert "training would do" in checked.stdout.replace("\n", " ")


def test_home_that_cannot_be_made_is_one_sentence(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = run_millrace("db", "status", cwd=shop, environ={"MILLRACE_HOME": str(tmp_path / "file")})

    assert refused.returncode == 2
    assert "MILLRACE_HOME" in refused.stderr
    assert "unexpected" not in refused.stderr


@pytest.mark.parametrize("listed", ["runs", "events"])
def test_cursor_that_is_no_id_is_wrong_use(millrace: Callable[..., Completed], listed: str) -> None:
    refused = millrace(listed, "list", "--cursor", "x")

    assert refused.returncode == 2
    assert "'x' is not an id" in refused.stderr


def test_event_that_is_no_id_says_where_ids_are(millrace: Callable[..., Completed]) -> None:
    refused = millrace("events", "forget", "x")

    assert refused.returncode == 2
    assert "take one of `millrace events list`" in " ".join(refused.stderr.split())


def test_fired_data_must_be_json(millrace: Callable[..., Completed]) -> None:
    refused = millrace("trigger", "fire", "orders", "--data", "{orders")

    assert refused.returncode == 2
    assert "--data is not JSON" in refused.stderr


def test_wrong_setting_names_its_variable(millrace: Callable[..., Completed]) -> None:
    refused = millrace("db", "status", environ={"MILLRACE_SLOTS": "many"})

    assert refused.returncode == 2
    assert "MILLRACE_SLOTS" in refused.stderr


def test_unreachable_store_is_one_sentence_without_its_password(millrace: Callable[..., Completed]) -> None:
    url = "postgresql://me:hush@127.0.0.1:1/db"

    failed = millrace("db", "status", environ={"MILLRACE_DATABASE_URL": url})

    assert failed.returncode == 1
    assert "not available" in failed.stderr
    assert "hush" not in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("hallo",), "has no pipeline 'hallo'; it has: hello"),
        (("hello", "--block", "nope"), "has no block 'nope'"),
        (("hello", "--var", "orders"), "is not KEY=VALUE"),
        (("hello", "--var", "orders=5"), "orders"),
        (("hello", "--with-upstream"), "--block"),
        (("hello", "--execution-date", "yesterday"), "is not an ISO 8601 time"),
    ],
)
def test_wrong_use_of_run_says_what_is_wrong(
    millrace: Callable[..., Completed], arguments: tuple[str, ...], sentence: str
) -> None:
    refused = millrace("run", *arguments)

    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr

"""`millrace import mage`: what a project needs is listed, and copied only when asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli.root import millrace
from tests.parts.projects import write

LOADER = """\
from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.file import (
    FileIO,
)
from mage_ai.io.config import ConfigKey

if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader


@data_loader
def load(*args, **kwargs):
    return FileIO().load('/home/src/shop/data/orders.csv')
"""
PIPELINE = """\
blocks:
- {uuid: load, name: load, type: data_loader, language: python, executor_type: local_python, color: red}
executor_count: 1
executor_config: {}
run_pipeline_in_one_process: true
variables_dir: /home/src/mage_data/shop
"""
KEY = {"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    for path, text in {
        "metadata.yaml": "project_type: standalone\nnotification_config: {alert_on: [trigger_failure]}\n",
        "io_config.yaml": "default:\n  POSTGRES_HOST: db\n  POSTGRES_PASSWORD: hunter2\n",
        "pipelines/orders/metadata.yaml": PIPELINE,
        "data_loaders/load.py": LOADER,
        "data/orders.csv": "id\n1\n",
        "keys/google.json": json.dumps(KEY),
        "keys/colours.json": '{"private": false}',
        ".env": "POSTGRES_PASSWORD=hunter2\n",
        "server.pem": "-----BEGIN",
        ".git/HEAD": "ref: refs/heads/main\n",
        "mage_data/shop/pipelines/orders/data.json": "[]",
        "__pycache__/load.pyc": "",
    }.items():
        write(root / path, text)
    (root / "outside.csv").symlink_to(tmp_path / "elsewhere.csv")
    return root


INSTEAD = "{{ env_var(...) }} or {{ secret(...) }}"
NEEDED = [
    "data/orders.csv",
    "data_loaders/load.py",
    "io_config.yaml",
    "keys/colours.json",
    "metadata.yaml",
    "pipelines/orders/metadata.yaml",
]


def imported(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(millrace, ["import", "mage", *map(str, words)])
    return result.exit_code, result.output


def told(*words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(imported(*words, "--json")[1])
    return found


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_nothing_is_written_unless_asked_for(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    code, output = imported(shop)

    assert (code, files_of(tmp_path)) == (0, before)
    assert "1 of 1 pipelines can run" in output
    assert f"{len(NEEDED)} files would be copied; nothing was written (see --write)" in output


def test_differences_are_told_once_with_their_places(shop: Path) -> None:
    write(shop / "data_loaders" / "more.py", "from mage_ai.io.file import FileIO\n")

    lines = imported(shop)[1].splitlines()

    (line,) = [line for line in lines if line.startswith("FileIO:")]
    assert "data_loaders/load.py:2, data_loaders/more.py:1" in line
    assert any(line.startswith("notification_config: it has no effect; nobody is told") for line in lines)


def test_every_difference_has_file_and_line(shop: Path) -> None:
    found = {
        (one["file"], one["line"], one["message"].partition(":")[0]) for one in told(shop)["differences"]
    }

    assert found == {
        ("data_loaders/load.py", 1, "ConfigFileLoader"),
        ("data_loaders/load.py", 2, "FileIO"),
        ("data_loaders/load.py", 13, "/home/src stands for the project's folder, or the one around it"),
        ("io_config.yaml", 3, f"POSTGRES_PASSWORD stands here as it is; write {INSTEAD}"),
        ("metadata.yaml", 2, "notification_config"),
        ("pipelines/orders/metadata.yaml", 5, "run_pipeline_in_one_process"),
    }  # fmt: skip
    assert "hunter2" not in imported(shop)[1]


def test_names_that_lack_are_told_of_modules_that_are_no_blocks(shop: Path) -> None:
    write(shop / "utils" / "lake.py", "import os\nfrom mage_ai.io.iceberg_s3 import Iceberg\n")

    found = {(one["file"], one["line"]): one["message"] for one in told(shop)["differences"]}

    assert "use pyiceberg" in found["utils/lake.py", 2]


def test_what_is_needed_is_copied_and_no_secret(shop: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "shop"

    found = told(shop, "--write", "--to", target)

    assert sorted(found["written"]) == NEEDED == files_of(target)
    assert {one["file"] for one in found["left_out"]} == {
        ".env", ".git/", "keys/google.json", "mage_data/", "outside.csv", "server.pem",
    }  # fmt: skip
    assert CliRunner().invoke(millrace, ["check", "--project", str(target)]).exit_code == 0


def test_file_that_is_there_is_never_written_over(shop: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write(target / "metadata.yaml", "name: mine\n")

    code, output = imported(shop, "--write", "--to", target)

    assert code == 1
    assert "metadata.yaml is there and differs; it was left as it is" in output
    assert (target / "metadata.yaml").read_text() == "name: mine\n"
    (target / "metadata.yaml").unlink()
    assert told(shop, "--write", "--to", target)["written"] == ["metadata.yaml"]
    code, output = imported(shop, "--write", "--to", target)
    assert (code, output.splitlines()[-1]) == (0, f"0 files copied, {len(NEEDED)} were there already")


def test_copy_onto_itself_or_into_itself_changes_nothing(shop: Path) -> None:
    before = files_of(shop)

    assert imported(shop, "--write", "--to", shop)[0] == 0
    code, output = imported(shop, "--write", "--to", shop / "copy")

    assert (code, files_of(shop)) == (2, before)
    assert "name a folder outside" in output


def test_broken_pipelines_are_told_and_stop_nothing(shop: Path, tmp_path: Path) -> None:
    write(shop / "pipelines" / "users" / "metadata.yaml", "blocks: [{uuid: users, type: data_loader}]\n")
    write(shop / "data_loaders" / "users.py", "from mage_ai.io.mongodb import MongoDB\n!pip install x\n")
    write(shop / "pipelines" / "odd" / "metadata.yaml", "blocks: [{\n")
    write(shop / "pipelines" / "list" / "metadata.yaml", "- 1\n")

    found = told(shop, "--write", "--to", tmp_path / "target")

    reasons = {one["name"]: one["reasons"] for one in found["pipelines"]}
    assert reasons["orders"] == []
    assert "no Python" in reasons["users"][0]
    assert reasons["odd"]
    assert reasons["list"]
    assert "pipelines/odd/metadata.yaml" in found["written"]


@pytest.mark.parametrize("kind", ["empty", "missing", "file"])
def test_place_without_a_project_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    place = tmp_path / kind
    if kind == "empty":
        place.mkdir()
    elif kind == "file":
        place.write_text("")

    code, output = imported(place)

    assert code == 2
    wanted = {
        "empty": "has neither metadata.yaml nor pipelines/",
        "missing": "not exist",
        "file": "is a file",
    }
    assert wanted[kind] in output


def test_project_one_floor_down_is_pointed_at(shop: Path) -> None:
    code, output = imported(shop.parent)

    assert code == 2
    assert f"{shop} would do" in output


def test_place_that_cannot_be_written_is_told(shop: Path, tmp_path: Path) -> None:
    write(tmp_path / "taken", "a file\n")

    code, output = imported(shop, "--write", "--to", tmp_path / "taken" / "below")

    assert code == 1
    assert "name another folder with --to" in output

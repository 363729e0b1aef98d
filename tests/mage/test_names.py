"""The names of `mage_ai` are there while a run goes on, and only then."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.mage.importing import current_places, mage_names
from pipelines.mage.names import MODULES, ROOT_NAME, MageNameMissing, has_name, modules
from pipelines.mage.places import Places

ALL_NAMES = sorted(
    (".".join(filter(None, (ROOT_NAME, below))), name)
    for below, (_, names) in MODULES.items()
    for name in names
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    root = tmp_path / "my-shop"
    root.mkdir()
    return Places(root, frozenset({"shop"}))


def test_every_name_can_be_imported(places: Places) -> None:
    with mage_names(places):
        found = {(module, name): getattr(importlib.import_module(module), name) for module, name in ALL_NAMES}

    assert all(found[key] is not None for key in ALL_NAMES)


def test_nothing_is_left_when_the_run_is_over(places: Places) -> None:
    with mage_names(places):
        importlib.import_module("mage_ai.io.config")
        assert current_places() == places

    assert not [name for name in sys.modules if name.partition(".")[0] == ROOT_NAME]
    assert current_places() is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mage_ai")


def test_mage_itself_is_set_aside_and_back_afterwards(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ModuleType("mage_ai")
    monkeypatch.setitem(sys.modules, "mage_ai", theirs)

    with mage_names(places):
        ours = importlib.import_module("mage_ai")
        assert ours is not theirs
        assert callable(ours.run)

    assert sys.modules["mage_ai"] is theirs


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("import mage_ai.io.mongodb", "mage_ai.io.mongodb is not in Millrace; use pymongo"),
        ("from mage_ai.io.postgres import Postgrez", "mage_ai.io.postgres has Postgres; did you mean"),
        ("from mage_ai.orchestration.db.models.schedules import PipelineRun", "trigger_pipeline"),
        ("from mage_ai.io.google_sheets import GoogleSheets", "use gspread in the block"),
        ("from mage_ai.something.new import x", "docs/mage.md"),
    ],
)
def test_name_that_is_not_there_says_what_to_do(places: Places, statement: str, said: str) -> None:
    with mage_names(places), pytest.raises(MageNameMissing) as caught:
        exec(statement, {})

    assert said in str(caught.value)
    assert isinstance(caught.value, ImportError)  # so that `except ImportError` in a block sees it
    assert len(str(caught.value).splitlines()) == 1


def test_modules_and_all_names_by_a_star(places: Places) -> None:
    with mage_names(places):
        names: dict[str, object] = {}
        exec("from mage_ai.io import config\nfrom mage_ai.data_preparation.decorators import *", names)

    assert {"config", "data_loader", "streaming_source"} <= names.keys()
    assert has_name("mage_ai.io", "config")
    assert set(modules()) >= {"mage_ai", "mage_ai.io", "mage_ai.io.postgres"}


def test_project_goes_by_all_its_names(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = places.root / "utils" / "paths.py"
    helpers.parent.mkdir()
    helpers.write_text("HERE = '/home/src/shop/data'\n")
    (places.root / "job.py").write_text("from mlops.utils.paths import HERE\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(places.root), str(places.root.parent)])

    with mage_names(places):
        for name in ("default_repo", "shop", "mlops"):
            found = importlib.import_module(f"{name}.utils.paths").HERE
            assert found == f"{places.root}/data"
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("somebody_else.utils.paths")

    assert "default_repo" not in sys.modules
    assert "mlops.utils.paths" not in sys.modules


def test_project_among_others_goes_by_the_name_of_what_is_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(tmp_path / "training")
    for project in ("training", "common"):
        (tmp_path / project / "utils").mkdir(parents=True)
        (tmp_path / project / "utils" / "paths.py").write_text(f"HERE = {project!r}\n")
    (places.root / "job.py").write_text("from mlops.training.utils.paths import HERE\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(places.root), str(tmp_path)])

    with mage_names(places):
        for outer in ("mlops", "default_repo"):
            for project in ("training", "common"):
                assert project == importlib.import_module(f"{outer}.{project}.utils.paths").HERE

    assert "mlops" not in sys.modules


def test_branches_import_side_by_side(places: Places) -> None:
    failures: list[BaseException] = []

    def load() -> None:
        try:
            for module, name in ALL_NAMES:
                getattr(importlib.import_module(module), name)
        except BaseException as error:
            failures.append(error)

    with mage_names(places):
        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []

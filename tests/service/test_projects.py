from __future__ import annotations

import threading
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.projects import Projects, ProjectsWatch, UnknownProject

PIPELINE = """
name: {name}
type: python
blocks:
- {{name: load, type: data_loader, language: python, upstream_blocks: []}}
"""
BLOCK = "from pipelines import data_loader\n\n@data_loader\ndef load(**_):\n    return 1\n"


def make_project(root: Path, *pipelines: str, name: str | None = None) -> Path:
    (root / "data_loaders").mkdir(parents=True)
    (root / "data_loaders" / "load.py").write_text(BLOCK)
    if name:
        (root / "metadata.yaml").write_text(f"name: {name}\n")
    for pipeline in pipelines:
        add_pipeline(root, pipeline)
    return root


def add_pipeline(root: Path, name: str) -> None:
    folder = root / "pipelines" / name
    folder.mkdir(parents=True)
    (folder / "metadata.yaml").write_text(PIPELINE.format(name=name))


def test_first_project_is_the_default(tmp_path: Path) -> None:
    projects = Projects([make_project(tmp_path / "b"), make_project(tmp_path / "a")])

    assert projects.default.name == "b"
    assert projects.names == ("b", "a")
    assert projects.get("a").root == tmp_path / "a"


def test_unknown_project_is_told_which_there_are(tmp_path: Path) -> None:
    projects = Projects([make_project(tmp_path / "shop")])

    with pytest.raises(UnknownProject, match="no project 'shoop' here; this service serves shop"):
        projects.get("shoop")


def test_two_projects_of_one_name_are_refused(tmp_path: Path) -> None:
    roots = [make_project(tmp_path / folder, name="shop") for folder in ("one", "two")]

    with pytest.raises(SettingsError, match=r"one and .*two are both named 'shop'"):
        Projects(roots)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no project folder"):
        Projects([tmp_path / "nowhere"])


def test_version_grows_only_with_a_change(tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop", "daily")
    projects = Projects([root])
    before = projects.version

    assert not projects.refresh()
    assert projects.version == before

    add_pipeline(root, "weekly")
    assert projects.refresh()
    assert projects.version > before
    assert set(projects.default.pipelines) == {"daily", "weekly"}


def test_watch_notices_a_change_and_tells(tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop")
    projects = Projects([root])
    told = threading.Event()
    watch = ProjectsWatch(projects, every_seconds=0.02, on_change=(told.set,))
    watch.start()
    try:
        add_pipeline(root, "daily")

        assert told.wait(10)
        assert set(projects.default.pipelines) == {"daily"}
    finally:
        watch.stop()


def test_watch_tells_of_a_change_that_somebody_else_saw_first(tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop")
    projects = Projects([root])
    told = threading.Event()
    watch = ProjectsWatch(projects, every_seconds=0.02, on_change=(told.set,))
    add_pipeline(root, "daily")
    assert projects.refresh()

    watch.start()
    try:
        assert told.wait(10)
    finally:
        watch.stop()


def test_watch_outlives_an_error_of_whom_it_tells(tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop")
    calls: list[int] = []
    told_twice = threading.Event()

    def fail() -> None:
        calls.append(1)
        if len(calls) == 2:
            told_twice.set()
        raise RuntimeError("not today")

    watch = ProjectsWatch(Projects([root]), every_seconds=0.02, on_change=(fail,))
    watch.start()
    try:
        add_pipeline(root, "daily")
        while not calls:
            told_twice.wait(0.01)
        add_pipeline(root, "weekly")

        assert told_twice.wait(10)
    finally:
        watch.stop()


def test_a_project_keeps_its_name_until_the_service_starts_again(tmp_path: Path) -> None:
    """Its events and runs are known by it, and so are the addresses of its webhooks."""
    root = make_project(tmp_path / "shop", "daily")
    projects = Projects([root])
    name = projects.default.name

    (root / "metadata.yaml").write_text("name: market\n")
    assert projects.refresh()

    assert projects.get(name) is projects.default
    assert projects.default.name == name
    assert Projects([root]).default.name == "market"

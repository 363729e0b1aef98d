"""Which folders are projects; repositories mostly hold them one floor down."""

from __future__ import annotations

from pathlib import Path


def is_project(folder: Path) -> bool:
    return (folder / "metadata.yaml").exists() or (folder / "pipelines").is_dir()


def projects_in(folder: Path) -> list[Path]:
    """Return the folders in `folder` that are projects, by name."""
    return [below for below in sorted(folder.iterdir()) if is_project(below)]


def hint_of(folder: Path) -> str:
    """Return the end of a sentence that says which folders in `folder` could have been named, if any."""
    found = [str(below) for below in projects_in(folder)]
    return f"; but {', '.join(found)} would do" if found else ""

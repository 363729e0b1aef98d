"""`millrace import`: bring projects of other tools over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipelines.project import Project
from service.checks import problems_of
from service.cli.check import pipelines_of, print_project
from service.cli.options import json_option
from service.cli.output import console, print_json, table
from service.mage_import import Copied, Inventory, Note, copy_files, take_inventory
from service.project_folders import hint_of, is_project

_SHOWN_PLACES = 3  # of one difference; --json has them all


@click.group(name="import")
def imports() -> None:
    """Bring projects of other tools over."""


@imports.command()
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--write", is_flag=True, help="Copy what is needed. Without it nothing is written.")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where to copy to, an existing project or a new folder. [default: the current folder]",
)
@json_option
def mage(source: Path, write: bool, target: Path | None, as_json: bool) -> None:
    """Check the Mage project at PATH, and list what behaves differently here.

    A Mage project runs where it is, so nothing has to be copied. With --write its files are copied, without
    anything that looks like a secret; files that are there already are never written over.
    """
    root = source.resolve()
    if not is_project(root):
        raise click.UsageError(
            f"{source} is no project: it has neither metadata.yaml nor pipelines/{hint_of(source)}"
        )
    project, inventory = Project.load(root), take_inventory(root)
    copied = _copied(root, (target or Path()).resolve(), inventory) if write else None
    if as_json:
        print_json(_json_of(project, inventory, copied))
    else:
        _print(project, inventory, copied)
    if copied is not None and copied.kept:
        raise click.exceptions.Exit(1)


def _copied(root: Path, target: Path, inventory: Inventory) -> Copied:
    if target == root:
        return Copied(same=inventory.copied)
    if target.is_relative_to(root):
        raise click.UsageError(f"{target} lies inside of the project; name a folder outside with --to")
    try:
        return copy_files(root, target, inventory.copied)
    except OSError as error:
        raise click.ClickException(
            f"cannot write {error.filename or target}: {error.strerror}; name another folder with --to"
        ) from error


def _json_of(project: Project, inventory: Inventory, copied: Copied | None) -> dict[str, Any]:
    return {
        "pipelines": list(pipelines_of(project)),
        "problems": [
            {"file": one.file, "line": one.line, "severity": str(one.severity), "message": one.message}
            for one in problems_of(project)
        ],
        "differences": [asdict(note) for note in inventory.differences],
        "left_out": [asdict(note) for note in inventory.left],
        "files": inventory.copied,
        "written": copied.written if copied else [],
        "same": copied.same if copied else [],
        "kept": copied.kept if copied else [],
    }


def _print(project: Project, inventory: Inventory, copied: Copied | None) -> None:
    print_project(project)
    _print_rows(("what behaves differently", "where"), _by_message(inventory.differences))
    _print_rows(("what is not copied", "why"), [(note.file, note.message) for note in inventory.left])
    out = console()
    if copied is None:
        out.print(f"\n{len(inventory.copied)} files would be copied; nothing was written (see --write)")
        return
    out.print(f"\n{len(copied.written)} files copied, {len(copied.same)} were there already")
    for name in copied.kept:
        out.print(f"{name} is there and differs; it was left as it is", markup=False)


def _by_message(notes: Iterable[Note]) -> list[tuple[str, str]]:
    """Return each message once, with the first places that it is true of."""
    places: dict[str, list[str]] = {}
    for note in notes:
        places.setdefault(note.message, []).append(f"{note.file}:{note.line}")
    return [(message, _first_of(where)) for message, where in places.items()]


def _first_of(places: Sequence[str]) -> str:
    more = len(places) - _SHOWN_PLACES
    return ", ".join(places[:_SHOWN_PLACES]) + (f" and {more} more" if more > 0 else "")


def _print_rows(columns: tuple[str, str], rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        out = console()
        out.print()
        out.print(table(columns, rows))

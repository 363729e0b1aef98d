"""`millrace init`: a small project that runs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from shutil import copyfile

import click

from service.cli.options import json_option
from service.cli.output import print_json

# Files whose name in a package would have an effect there, or would be left out of it.
_NAMES = {"gitignore": ".gitignore"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Make a small project that runs, in FOLDER (the current one by default).

    Files that are there already are never overwritten.
    """
    folder = folder.resolve()
    with as_file(files("service.cli") / "starter") as starter:
        wanted = {
            folder / _target(path, starter): path for path in sorted(starter.rglob("*")) if _is_part(path)
        }
        taken = [str(target.relative_to(folder)) for target in wanted if target.exists()]
        if (folder / "metadata.yaml").exists():
            taken.insert(0, "metadata.yaml")
        if taken:
            raise click.UsageError(
                f"{folder} has {', '.join(taken)} already; name a new folder: millrace init NAME"
            )
        try:
            _write(folder, wanted)
        except OSError as error:
            raise click.ClickException(
                f"cannot write {error.filename or folder}: {error.strerror}; name a folder you may write to"
            ) from error
    written = ["metadata.yaml", *(str(target.relative_to(folder)) for target in wanted)]
    if as_json:
        print_json({"folder": str(folder), "files": sorted(written)})
    else:
        _tell_next_steps(folder)


def _write(folder: Path, wanted: Mapping[Path, Path]) -> None:
    for target, source in wanted.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(source, target)
    name = json.dumps(folder.name or "project", ensure_ascii=False)  # as YAML, whatever characters it has
    (folder / "metadata.yaml").write_text(f"name: {name}\n", encoding="utf-8")


def _target(path: Path, starter: Path) -> Path:
    relative = path.relative_to(starter)
    return relative.with_name(_NAMES.get(relative.name, relative.name))


def _is_part(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _tell_next_steps(folder: Path) -> None:
    here = Path.cwd()
    click.echo(f"Made a project in {folder}. Next:")
    if folder != here:
        click.echo(f"  cd {shlex.quote(os.path.relpath(folder, here))}")
    click.echo("  millrace run hello              run its pipeline now")
    click.echo("  millrace start                  serve it, then in another terminal:")
    click.echo("  millrace pipelines show hello   the address and token of its webhook")

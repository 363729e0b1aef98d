"""What the code of a project finds around it: its own modules, its folder, its environment."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def add_project_to_path(root: Path) -> None:
    """Let blocks import the project's own modules, by its root and by its name.

    At the end of the path, so that a project never shadows the standard library or our packages.
    """
    for folder in (str(root), str(root.parent)):
        if folder not in sys.path:
            sys.path.append(folder)


@contextmanager
def restored_process(folder: Path) -> Iterator[None]:
    """Run the body in `folder`; then undo what it did to the environment, the working folder and the path."""
    environment, path, filters = dict(os.environ), list(sys.path), list(warnings.filters)
    working_folder = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(working_folder)
        _restore_environment(environment)
        sys.path[:] = path
        warnings.filters[:] = filters  # type: ignore[index]  # a list at run time, says the documentation
        warnings._filters_mutated()  # type: ignore[attr-defined]  # or cached verdicts would stay in use


def _restore_environment(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value

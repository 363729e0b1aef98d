"""Where the project is: `mage_ai.settings.repo`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from pipelines.errors import MillraceError
from pipelines.mage.importing import current_places
from pipelines.mage.places import Places


def get_repo_path(*_: Any, **__: Any) -> str:
    """Return the project's folder, as an absolute path. Mage's arguments choose a project; here is one."""
    return str(places().root)


def get_repo_name(*_: Any, **__: Any) -> str:
    return places().root.name


def get_data_dir(*_: Any, **__: Any) -> str:
    """Return the folder that stands for `/home/src/mage_data`. It is there."""
    return str(places().data_folder())


def get_variables_dir(*_: Any, **__: Any) -> str:
    return get_data_dir()


def places() -> Places:
    """Return the folders of the project whose run goes on. Raises MillraceError outside of runs."""
    found = current_places()
    if found is None:
        raise MillraceError("the names of mage_ai work only while a run goes on; use `millrace run`")
    return found


def located(path: Any) -> Any:
    """Return a path that the project's code has put together, as it is here."""
    if isinstance(path, str):
        return places().located(path)
    return type(path)(places().located(str(path))) if isinstance(path, PurePath) else path


def found(path: Any) -> Any:
    """Return a relative path that is only in the folder around the project as it is there; else `path`.

    Mage works in that folder, so that a path may begin with the project's own name: the one that it has
    here, or had where the path was written.
    """
    if not isinstance(path, (str, PurePath)) or "://" in str(path):
        return path
    given = Path(path)
    if given.is_absolute() or not given.name or _exists(given):
        return path
    return next((type(path)(place) for place in _elsewhere(given) if _exists(place)), path)


def _elsewhere(given: Path) -> Iterator[Path]:
    root = places().root
    yield root.parent / given
    first, *rest = given.parts
    if rest and first != "..":
        yield root.joinpath(*rest)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is the data itself, and no path
        return False


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return where a path of the project's code lies; one that is there is found as `found` does."""
    given = Path(places().located(os.fspath(path))).expanduser()
    return Path(found(given)).absolute()

"""Local files: `mage_ai.io.file`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import pandas as pd

from pipelines.io.config import Profile
from pipelines.io.errors import ConnectorError
from pipelines.io.files import Files
from pipelines.mage.formats import BaseIO
from pipelines.mage.repository import absolute, places

# Formats of Mage that our connector does not have, and what reads addresses.
_READERS: Mapping[str, Callable[..., Any]] = {
    "csv": pd.read_csv,
    "json": pd.read_json,
    "parquet": pd.read_parquet,
    "excel": pd.read_excel,
    "xml": pd.read_xml,
    "hdf5": pd.read_hdf,
}
_ENDINGS = {
    ".csv": "csv", ".txt": "csv", ".tsv": "csv", ".json": "json", ".parquet": "parquet", ".xlsx": "excel",
    ".xls": "excel", ".xml": "xml", ".hdf5": "hdf5", ".h5": "hdf5",
}  # fmt: skip
_MAGE_KEYWORDS = frozenset({"limit", "verbose", "engine", "coerce_timestamps", "allow_truncated_timestamps"})


class FileIO(BaseIO):
    """Reads and writes files. Relative paths begin in the project's folder, or in the one around it."""

    def __init__(
        self, filepath: str | os.PathLike[str] | None = None, verbose: bool = False, **_: Any
    ) -> None:
        """Take the file as Mage's first versions did, or take it in `load`, as later ones do."""
        self._filepath = filepath if isinstance(filepath, (str, os.PathLike)) else None
        self._files = Files.from_profile(Profile.of_values({}, root=places().root))

    @classmethod
    def with_config(cls, *_: Any, **__: Any) -> Self:
        return cls()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no file stays open."""

    def load(
        self,
        filepath: str | os.PathLike[str] | None = None,
        format: str | None = None,
        file_directories: list[str] | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Return the rows of a file, of all files in some folders, or of what is at an address."""
        given = without_mages(options)
        if file_directories is not None:
            return self._of_folders(file_directories, format, given)
        filepath = filepath if filepath is not None else self._filepath
        if filepath is None:
            raise ConnectorError("FileIO().load() needs filepath: the file to read")
        name = os.fspath(filepath)
        kind = named_format(name, format)
        if "://" in name or kind in ("xml", "hdf5"):
            found: pd.DataFrame = _READERS[kind or "csv"](name, **given)
        else:
            found = self._files.load(absolute(name), format=kind, **given)
        return found

    def export(
        self, df: Any, filepath: str | os.PathLike[str], format: str | None = None, **options: Any
    ) -> None:
        """Write a frame to a file; it appears when it is whole."""
        kind = named_format(os.fspath(filepath), format)
        if kind in ("xml", "hdf5"):
            raise ConnectorError(f"FileIO().export() does not write {kind}; use df.to_{kind[:3]}() of pandas")
        self._files.export(df, absolute(filepath), format=kind, **without_mages(options))

    def exists(self, filepath: str | os.PathLike[str], *_: Any, **__: Any) -> bool:
        return absolute(filepath).exists()

    def _of_folders(self, folders: list[str], format: str | None, options: Mapping[str, Any]) -> pd.DataFrame:
        files = [file for folder in folders for file in sorted(absolute(folder).iterdir()) if file.is_file()]
        if not files:
            raise ConnectorError(f"FileIO().load(): there is no file in {', '.join(map(str, folders))}")
        return pd.concat([self.load(file, format, **options) for file in files], ignore_index=True)


def named_format(name: str, given: str | None) -> str | None:
    """Return our name of a format: the one that was given, or what the ending says; None is the ending's."""
    if given is not None:
        text = str(getattr(given, "value", given)).lower()
        return {"xlsx": "excel", "xls": "excel"}.get(text, text)
    stem = name.lower().partition("?")[0]
    for packed in (".gz", ".zip", ".bz2", ".zst"):
        stem = stem.removesuffix(packed)
    return next((kind for ending, kind in _ENDINGS.items() if stem.endswith(ending)), None)


def without_mages(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keywords that only Mage's own readers and writers take."""
    return {name: value for name, value in options.items() if name not in _MAGE_KEYWORDS}

"""Secrets by name: from the environment, or from one file each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import MillraceError

ENVIRONMENT_PREFIX = "MILLRACE_SECRET_"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class SecretMissing(MillraceError):
    """A secret that nobody gave us."""


class Secrets:
    """Finds secrets. Values are read when they are asked for and kept nowhere.

    A secret `shop` is the environment variable `MILLRACE_SECRET_SHOP`, else the text of the file `shop` in
    `folder` without the line break at its end.
    """

    def __init__(self, folder: Path | None, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    def __repr__(self) -> str:
        return f"Secrets(folder={str(self._folder)!r})"

    def get(self, name: str) -> str:
        """Return the secret. Raises SecretMissing, which says where it was looked for."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SecretMissing("a secret's name has letters, digits, '_', '-' and '.' only")
        variable = ENVIRONMENT_PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", name).upper()
        if variable in self._environ:
            return self._environ[variable]
        if self._folder is not None:
            try:
                return (self._folder / name).read_text("utf-8").rstrip("\r\n")
            except OSError:
                pass
        raise SecretMissing(f"the secret '{name}' is not set; set {variable}{self._or_file(name)}")

    def stamp(self) -> frozenset[tuple[str, int, int]]:
        """Return what is another once a file of the folder was added, changed or taken away."""
        try:
            with os.scandir(self._folder or "") as entries:
                return frozenset(
                    (one.name, (seen := one.stat()).st_mtime_ns, seen.st_size) for one in entries
                )
        except OSError:
            return frozenset()

    def _or_file(self, name: str) -> str:
        return f", or write it to the file '{name}' in the secrets folder" if self._folder else ""

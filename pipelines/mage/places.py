"""Where the paths of Mage's container lie on this machine.

Mage's image has projects in `/home/src` and its data in `/home/src/mage_data`, and the code of projects says
so. Here a project lies anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE_FOLDER = "/home/src"
_DATA_FOLDER = "mage_data"

# Not in the middle of a longer path or address, and with what follows of the path.
_SOURCE_PATH = re.compile(r"(?<![\w./:-])/home/src(?![\w.-])(?P<below>(?:/[^/\s'\"`,;:?*<>|()\[\]{}]*)*)")


@dataclass(frozen=True)
class Places:
    """The folders of one project."""

    root: Path  # of the project
    names: frozenset[str] = frozenset()  # that its code may have for the project's package or folder
    data: Path | None = None  # what Mage has in /home/src/mage_data; None: in the project

    @property
    def is_mapped(self) -> bool:
        """Say whether `/home/src` is only a name. A project that really lies there keeps its paths."""
        return not self.root.is_relative_to(SOURCE_FOLDER)

    def data_folder(self) -> Path:
        """Return the folder for `/home/src/mage_data`, and make it."""
        folder = self.data or self.root / ".millrace" / _DATA_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def owns(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and "site-packages" not in path.parts

    def located(self, text: str) -> str:
        """Return the text with every path below `/home/src` as it is here."""
        if SOURCE_FOLDER not in text or not self.is_mapped:
            return text
        return _SOURCE_PATH.sub(lambda match: self._place(match[0], match["below"]), text)

    def located_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return variables of a run, those that are texts with their paths as they are here."""
        return {
            name: self.located(value) if isinstance(value, str) else value for name, value in values.items()
        }

    def _place(self, whole: str, below: str) -> str:
        parts = [part for part in below.split("/") if part]
        end = "/" if below.endswith("/") else ""
        if ".." in parts or (parts and Path(whole).exists()):
            return whole
        if parts[:1] == [_DATA_FOLDER]:
            return str(self.data_folder().joinpath(*parts[1:])) + end
        return str(self._in_project(parts)) + end

    def _in_project(self, parts: list[str]) -> Path:
        """Find the parts in the project, then beside it; what is nowhere yet will be in the project."""
        if not parts:
            return self.root
        first, rest = parts[0], parts[1:]
        if first in self.names or first == self.root.name:
            return self.root.joinpath(*rest)
        if (self.root / first).exists():
            return self.root.joinpath(*parts)
        if (self.root.parent / first).exists():
            return self.root.parent.joinpath(*parts)
        if rest and rest[0] == self.root.name:  # one of several, in a folder for all of them
            return self.root.joinpath(*rest[1:])
        # The project may have had another name where the path was written.
        if rest and (self.root / rest[0]).exists():
            return self.root.joinpath(*rest)
        return self.root.joinpath(*parts)

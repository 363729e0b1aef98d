"""Which of a project's own modules this process has loaded, and whether they are still what they were."""

from __future__ import annotations

import sys
from pathlib import Path

Stamp = tuple[int, int]


class LoadedModules:
    """Modules cannot be unloaded reliably, so a process whose modules changed is replaced (DESIGN 6)."""

    def __init__(self) -> None:
        self._root = ""
        self._count = 0
        self._stamps: dict[str, Stamp | None] = {}

    def watch(self, root: Path) -> None:
        """Look from now on at the modules below the parent of `root`, from where projects import."""
        self._root = f"{root.resolve().parent}/"

    def remember(self) -> None:
        """Note the files of modules loaded since the last call."""
        if len(sys.modules) == self._count:
            return
        self._count = len(sys.modules)
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file and file.startswith(self._root) and "site-packages" not in file:
                self._stamps.setdefault(file, _stamp(file))

    def have_changed(self) -> bool:
        return any(_stamp(file) != stamp for file, stamp in self._stamps.items())


def _stamp(file: str) -> Stamp | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size

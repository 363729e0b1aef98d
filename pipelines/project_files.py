"""The files of a project: read once, and again only when their stat says that they changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.parse_blocks import Sources

MAX_FILE_BYTES = 5_000_000

# A file written just before we read it may be written again without a change of its time stamp.
_SETTLED_NANOSECONDS = 100_000_000

_Signature = tuple[int, int, int]  # mtime, size, inode


@dataclass(frozen=True)
class PinnedSources:
    """The sources that a run was pinned to."""

    texts: Mapping[str, str]

    def read(self, path: str) -> str:
        try:
            return self.texts[path]
        except KeyError:
            raise FileNotFoundError(f"{path} is not among the pinned sources") from None

    def exists(self, path: str) -> bool:
        return path in self.texts


class Folder:
    """A folder on disk. Keeps the texts between snapshots."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._texts: dict[str, tuple[_Signature, str]] = {}

    def snapshot(self) -> Snapshot:
        """Return a view that looks at each file once."""
        return Snapshot(self)

    def text(self, path: str, signature: _Signature | None) -> str:
        """Return the text of `path`, from memory when it still has that signature."""
        cached = self._texts.get(path)
        if cached is not None and cached[0] == signature:
            return cached[1]
        place = self._place(path)
        if signature is not None and signature[1] > MAX_FILE_BYTES:
            raise OSError(f"the file has more than {MAX_FILE_BYTES:,} bytes")
        text = place.read_text("utf-8-sig")
        self._texts.pop(path, None)
        if signature is not None and time.time_ns() - signature[0] > _SETTLED_NANOSECONDS:
            self._texts[path] = (signature, text)
        return text

    def signature(self, path: str) -> _Signature | None:
        try:
            found = os.stat(self.root / path)
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def is_file(self, path: str) -> bool:
        return (self.root / path).is_file()

    def _place(self, path: str) -> Path:
        """Return where `path` is. It may lie beside the project, as Mage has it, and nowhere else."""
        pure = PurePosixPath(path)
        place = (self.root / pure).resolve()
        if pure.is_absolute() or not place.is_relative_to(self.root.parent.resolve()):
            raise PermissionError(f"{path} lies outside of the project")
        return place


@dataclass
class Snapshot:
    """One look at a folder: every file has one state in it, however often it is asked for."""

    folder: Folder
    _texts: dict[str, str | OSError | UnicodeDecodeError] = field(default_factory=dict)
    _files: dict[str, bool] = field(default_factory=dict)

    def read(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = self._look(path)
        found = self._texts[path]
        if isinstance(found, str):
            return found
        raise found

    def exists(self, path: str) -> bool:
        if path not in self._files:
            self._files[path] = self.folder.is_file(path)
        return self._files[path]

    def optional(self, path: str) -> str | None:
        """Return the text, or None when there is no such file."""
        return self.read(path) if self.exists(path) else None

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in `path`, sorted."""
        try:
            with os.scandir(self.folder.root / path) as entries:
                return sorted(
                    entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
                )
        except OSError:
            return []

    def _look(self, path: str) -> str | OSError | UnicodeDecodeError:
        try:
            return self.folder.text(path, self.folder.signature(path))
        except (OSError, UnicodeDecodeError) as error:
            return error


@dataclass
class Recorder:
    """Passes questions on to a snapshot and remembers the answers."""

    sources: Sources
    texts: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    existed: dict[str, bool] = field(default_factory=dict)

    def read(self, path: str) -> str:
        try:
            self.texts[path] = self.sources.read(path)
        except (OSError, UnicodeDecodeError) as error:
            self.failures[path] = str(error)
            raise
        return self.texts[path]

    def exists(self, path: str) -> bool:
        self.existed[path] = self.sources.exists(path)
        return self.existed[path]

    def is_current(self, sources: Sources) -> bool:
        """Tell whether `sources` would give the same answers again."""
        return all(sources.exists(path) == answer for path, answer in self.existed.items()) and all(
            _answer(sources, path) == answer for path, answer in (self.texts | self.failures).items()
        )


def _answer(sources: Sources, path: str) -> str:
    try:
        return sources.read(path)
    except (OSError, UnicodeDecodeError) as error:
        return str(error)

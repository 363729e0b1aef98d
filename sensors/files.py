"""The `files` sensor: new and overwritten files in a folder, local or mounted."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from sensors.base import Cursor, Options, Page, Sensor, SensorError, TickContext, pages_of
from sensors.event import Event

# Two writes within a file system's clock granule look alike; this is far above every known one.
CLOCK_GRANULE = timedelta(seconds=2)


class FilesOptions(Options):
    path: str = Field(min_length=1, description="the folder, relative to the project or absolute")
    pattern: str = Field(
        default="*",
        min_length=1,
        description="glob over the path below the folder: * stays within one folder, ** crosses folders",
    )
    ignore: tuple[str, ...] = Field(
        default=(".*", "*.tmp", "*.part", "*.crdownload", "*~"),
        description="globs over names of files and folders to leave alone, such as half-written files",
    )
    hash: bool = Field(
        default=False,
        description="also tell versions apart by SHA-256 (reads every file whenever something has changed)",
    )

    @field_validator("pattern")
    @classmethod
    def _is_a_glob(cls, value: str) -> str:
        try:
            glob_pattern(value)
        except re.error as error:
            raise ValueError(f"{value!r} is no pattern: {error}") from None
        return value

    @field_validator("path")
    @classmethod
    def _expands_home(cls, value: str) -> str:
        return os.path.expanduser(value)


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """One version of one file. `changed_ns` and `inode` serve the fingerprint only, never the key."""

    name: str  # below the folder, with forward slashes
    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class _Memory:
    """The cursor. Equal fingerprints mean that no file came, went or changed since the last whole tick.

    `first_sight_ns` stands while the first look at the folder is not yet committed to its end: what was
    changed later than that, between a crash and the repeat, is not baseline.
    """

    fingerprint: str | None = None
    first_sight_ns: int | None = None

    @classmethod
    def parse(cls, cursor: Cursor, now: datetime) -> _Memory:
        if cursor is None:
            return cls(first_sight_ns=_nanoseconds(now))
        stored = json.loads(cursor)
        return cls(stored.get("fingerprint"), stored.get("first_sight_ns"))

    def text(self) -> str:
        return json.dumps({"fingerprint": self.fingerprint, "first_sight_ns": self.first_sight_ns})


class FilesSensor(Sensor[FilesOptions]):
    """Reports every version of every file that fits, whatever its time stamp says.

    Each tick lists the whole folder, since no time stamp of a file tells when it arrived; a fingerprint of
    the list ends the tick at once when nothing has changed.
    """

    name: ClassVar[str] = "files"
    options_model: ClassVar[type[Options]] = FilesOptions

    def __init__(self, options: FilesOptions) -> None:
        super().__init__(options)
        self._fits = glob_pattern(options.pattern)

    def tick(self, cursor: Cursor, context: TickContext) -> Iterator[Page]:
        memory = _Memory.parse(cursor, context.now)
        folder = context.root / self.options.path  # an absolute path stands for itself
        files = sorted(self._list(folder))
        fingerprint = _fingerprint(files)
        if memory.fingerprint == fingerprint:
            return
        yield from pages_of(
            self._events(folder, files, memory, context),
            during=memory.text(),
            final=_Memory(fingerprint if self._is_settled(files, context.now) else None).text(),
        )

    def _events(
        self, folder: Path, files: list[_Found], memory: _Memory, context: TickContext
    ) -> Iterator[tuple[Event, bool]]:
        for file in files:
            if context.is_stopping():
                raise SensorError("the engine is stopping; the tick goes on after the next start")
            event = self._event(folder, file, context.source)
            if event is None:
                continue
            was_there = memory.first_sight_ns is not None and file.changed_ns < memory.first_sight_ns
            yield event, was_there and context.existing.makes_baseline(event.time)

    def _event(self, folder: Path, file: _Found, source: str) -> Event | None:
        path = folder / file.name
        key = f"{_text(path.as_posix())}#{file.size}:{file.modified_ns}"
        data = {
            "path": _text(str(path)),
            "name": _text(file.name),
            "size": file.size,
            "modified": _iso(file.modified_ns),
            "modified_ns": file.modified_ns,
        }
        if self.options.hash:
            digest = _sha256(path)
            if digest is None:
                return None  # gone since it was listed; its name is a new version should it come back
            key += f":{digest}"
            data["sha256"] = digest
        return Event(
            source=source,
            key=key,
            type="file.created",
            time=_time(file.modified_ns),
            subject=_text(file.name),
            data=data,
        )

    def _is_settled(self, files: list[_Found], now: datetime) -> bool:
        """Tell whether the fingerprint may stand for the contents.

        Without hashes it always may. With them, a file changed a moment ago may change again within the same
        granule of the file system's clock, so the next tick has to read it again.
        """
        if not self.options.hash:
            return True
        newest = max((file.changed_ns for file in files), default=0)
        return newest < _nanoseconds(now - CLOCK_GRANULE)

    def _list(self, folder: Path) -> Iterator[_Found]:
        pending = [""]
        while pending:
            below = pending.pop()
            for entry in _entries(folder / below if below else folder):
                name = f"{below}/{entry.name}" if below else entry.name
                if self._is_ignored(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):  # a link to a folder could lead round in a circle
                    pending.append(name)
                elif self._fits.fullmatch(name):
                    yield from _stat(entry, name)

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.options.ignore)


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Compile a glob over paths: `*` and `?` stop at a slash, `**/` stands for any folders or none.

    `**` anywhere else stands for any text, slashes too. Raises re.error.
    """
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return re.compile("".join(_translate(part) for part in parts))


def _translate(part: str) -> str:
    match part:
        case "**/":
            return "(?:[^/]+/)*"
        case "**":
            return "(?s:.*)"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
    if part.startswith("[") and part.endswith("]"):
        inner = part[1:-1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.escape(part)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        raise SensorError(
            f"the folder {folder} does not exist; create it, or mend 'path' in the trigger's options"
        ) from None
    except NotADirectoryError:
        raise SensorError(
            f"{folder} is not a folder; 'path' in the trigger's options must name one"
        ) from None
    except OSError as error:
        raise SensorError(f"the folder {folder} cannot be listed: {error.strerror}") from error


def _stat(entry: os.DirEntry[str], name: str) -> Iterator[_Found]:
    try:
        if not entry.is_file():
            return
        stat = entry.stat()
    except FileNotFoundError:
        return  # deleted or renamed since it was listed
    yield _Found(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def _fingerprint(files: list[_Found]) -> str:
    digest = hashlib.sha256()
    for file in files:
        line = f"{file.name}\0{file.size}\0{file.modified_ns}\0{file.changed_ns}\0{file.inode}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SensorError(f"the file {path} cannot be read: {error.strerror}") from error


def _text(name: str) -> str:
    """Spell a name that is not valid UTF-8 with escapes: neither JSON nor a database could hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000) * 1000


def _time(nanoseconds: int) -> datetime:
    """Return the moment; the last or first there is, for time stamps that no calendar has."""
    try:
        return datetime.fromtimestamp(nanoseconds // 1000 / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if nanoseconds > 0 else datetime.min).replace(tzinfo=UTC)


def _iso(nanoseconds: int) -> str:
    return _time(nanoseconds).isoformat().replace("+00:00", "Z")

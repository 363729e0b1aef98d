"""Files and folders that appear at once: written aside, made durable, then renamed."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = "user.millrace.write"  # an extended attribute
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def written_aside(target: Path, token: str) -> Iterator[Path]:
    """Give a path beside the target to write to; what is left there in the end is removed.

    The token is the same for each try of one write, so that a try also removes what a killed one left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{token}.new")
    remove(aside)
    try:
        yield aside
    finally:
        remove(aside)


def mark(path: Path, write: str, rows: int) -> None:
    """Note on a file or folder by which write it was made; not every file system has room for that."""
    with suppress(OSError, AttributeError):
        os.setxattr(path, _MARK, f"{rows} {write}".encode())


def rows_marked(path: Path, write: str) -> int | None:
    """Return the rows of a file or folder if that write made it."""
    try:
        rows, _, found = os.getxattr(path, _MARK).decode().partition(" ")
    except (OSError, AttributeError):
        return None
    return int(rows) if found == write else None


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_file(aside: Path, target: Path, crash: Callable[[str], None]) -> None:
    """Put a written file in the place of the target."""
    sync(aside)
    crash("effect.before_commit")
    aside.replace(target)
    sync(target.parent)
    crash("effect.after_commit")


def put_folder(aside: Path, target: Path, crash: Callable[[str], None]) -> None:
    """Put a written folder in the place of the target; the old one is then at `aside`."""
    for folder, _, names in os.walk(aside):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
    crash("effect.before_commit")
    if target.exists():
        _exchange(aside, target)
    else:
        aside.rename(target)
    sync(target.parent)
    crash("effect.after_commit")


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders. On Linux in one step; elsewhere the second name is free for a moment."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        done = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
        if done == 0:
            return
    spare = one.with_name(one.name + ".old")
    other.rename(spare)
    one.rename(other)
    spare.rename(one)

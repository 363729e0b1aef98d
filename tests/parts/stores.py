"""A store of a test's own, on either database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from service.store.migrate import migrate
from service.store.session import Database

STORES = ("sqlite", "postgres")


def sqlite_url(home: Path) -> str:
    return f"sqlite:///{home / 'millrace.db'}"


@cache
def template() -> bytes:
    """Return a SQLite file with all tables made: writing it is faster than making them for every test."""
    with tempfile.TemporaryDirectory(prefix="millrace-template-") as folder:
        home = Path(folder)
        with opened_store(sqlite_url(home), home):
            pass
        return (home / "millrace.db").read_bytes()


def lay_store(home: Path) -> None:
    """Put a store with all its tables into the folder, unless one is there."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home / "millrace.db").exists():
        (home / "millrace.db").write_bytes(template())


@contextmanager
def opened_store(url: str, home: Path, crash: Callable[[str], None] | None = None) -> Iterator[Database]:
    """Open the store with its tables made, and close it afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    database = Database(url, home=home) if crash is None else Database(url, home=home, crash=crash)
    try:
        migrate(database)
        yield database
    finally:
        database.close()

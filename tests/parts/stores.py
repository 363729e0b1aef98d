"""A store of a test's own, on either database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.store.migrate import migrate
from service.store.session import Database

STORES = ("sqlite", "postgres")


def sqlite_url(home: Path) -> str:
    return f"sqlite:///{home / 'millrace.db'}"


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

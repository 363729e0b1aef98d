"""Lets code that was written for SQLAlchemy 1 and 2.0 reach Postgres by an address without a driver.

`postgresql://` meant psycopg2 until SQLAlchemy 2.1 chose psycopg 3, which Millrace does not bring.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.dialects import registry

_SCHEME = "postgresql"


@contextmanager
def postgres_by_psycopg2() -> Iterator[None]:
    """Let `postgresql://` mean psycopg2, as long as the body lasts."""
    before = registry.impls.get(_SCHEME)
    registry.register(_SCHEME, "sqlalchemy.dialects.postgresql.psycopg2", "dialect")
    try:
        yield
    finally:
        registry.deregister(_SCHEME)
        if before is not None:
            registry.impls[_SCHEME] = before

"""Lets code that was written for SQLAlchemy 1 and 2.0 reach Postgres by an address without a driver.

`postgresql://` meant psycopg2 until SQLAlchemy 2.1 chose psycopg 3, which Millrace does not bring. SQLAlchemy
itself is loaded only by code that wants it: a worker process starts a sixth faster without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_SCHEME = "postgresql"
_DIALECTS = "sqlalchemy.dialects"  # the module that has the registry


@contextmanager
def postgres_by_psycopg2() -> Iterator[None]:
    """Let `postgresql://` mean psycopg2, as long as the body lasts."""
    finder = _DialectsFinder()
    before = _registry().impls.get(_SCHEME) if _DIALECTS in sys.modules else None
    if _DIALECTS in sys.modules:
        _register()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if _DIALECTS in sys.modules:
            _registry().impls.pop(_SCHEME, None)
            if before is not None:
                _registry().impls[_SCHEME] = before


def _registry() -> Any:
    return sys.modules[_DIALECTS].registry


def _register() -> None:
    _registry().register(_SCHEME, "sqlalchemy.dialects.postgresql.psycopg2", "dialect")


class _DialectsFinder(MetaPathFinder):
    """Finds the module of the registry as others do, and has us told when it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _DIALECTS else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _DialectsLoader(spec.loader.name, spec.loader.path)
        return spec


class _DialectsLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _register()

"""Ids in paths, looked at before the store is asked for them."""

from __future__ import annotations

import re

from service.store.ids import ID_PATTERN
from service.web.problems import not_found

_ID = re.compile(ID_PATTERN)


def known(kind: str, ident: str) -> str:
    """Return the id, or refuse with 404 what cannot be one: the store takes no NUL, for example."""
    if not _ID.fullmatch(ident):
        raise not_found(kind, ident)
    return ident

"""Ids of rows: UUIDv7 as text, sortable by the time they were made."""

from __future__ import annotations

import uuid_utils

ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def new_id() -> str:
    """Return a fresh id, greater than all that this process made before."""
    return str(uuid_utils.uuid7())

"""Ids of rows: UUIDv7 as text, sortable by the time they were made."""

from __future__ import annotations

from datetime import datetime

import uuid_utils

ID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def first_id(moment: datetime) -> str:
    """Return what no id is smaller than that was made at this time or later."""
    millis = f"{max(int(moment.timestamp() * 1000), 0):012x}"
    return f"{millis[:8]}-{millis[8:]}-7000-8000-000000000000"


def new_id() -> str:
    """Return a fresh id, greater than all that this process made before."""
    return str(uuid_utils.uuid7())

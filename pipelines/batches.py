"""The events of a batch as a table. Worker processes only: it loads pandas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

BATCH_SETTLED = "batch.settled"

_COLUMNS = ("id", "key", "source", "type", "subject", "time")


def events_of(event: Mapping[str, Any] | None) -> pd.DataFrame | None:
    """Return a row for each event of a batch, its data in columns such as `data.name`; else None."""
    data = event.get("data") if event is not None and event.get("type") == BATCH_SETTLED else None
    found = data.get("events") if isinstance(data, Mapping) else None
    if not isinstance(found, list):
        return None
    rows = [{name: one.get(name) for name in (*_COLUMNS, "data")} for one in found]
    table = pd.json_normalize(rows)
    table["time"] = pd.to_datetime(table["time"], utc=True, format="ISO8601")
    return table

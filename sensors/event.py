"""An event: one fact from outside, or from a clock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MAX_KEY_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `key` is unique within `source`; `data` is what a JSON parser could return.

    `raw` keeps the bytes as they came, when they came as bytes. A `quarantine` reason says why `raw` could
    not be read; `data` is None then.
    """

    source: str  # e.g. "webhook:taxi/from_api", "files:/data/in", "schedule:taxi/nightly"
    key: str
    type: str  # e.g. "webhook.received", "file.created", "schedule.tick"
    time: datetime  # when it happened, aware UTC
    subject: str | None = None
    data: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)  # lower-case names, secrets redacted
    raw: bytes | None = None
    content_type: str | None = None
    quarantine: str | None = None
    shared: bool = False  # several roads may bring it, and each trigger that it concerns takes it once
    hops: int = 0  # runs of ours that led to it, one after the other

    def as_template_value(self, event_id: str) -> dict[str, Any]:
        """Return the names that templates and blocks see as `event`."""
        return {
            "id": event_id,
            "key": self.key,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "data": self.data,
            "headers": dict(self.headers),
        }


def bounded_key(key: str) -> str:
    """Return the key, or its digest in place of one that is long or cannot be shown."""
    if len(key) <= MAX_KEY_CHARACTERS and key.isprintable():
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"

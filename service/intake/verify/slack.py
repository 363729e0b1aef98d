"""Slack: a keyed hash, and the challenge by which Slack tries an address before it sends events there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from service.intake.verify.base import Scheme, Signed
from service.intake.verify.keyed_hash import KeyedHash
from service.intake.verify.presets import Options, preset

_SLACK: Options = {
    "header": "X-Slack-Signature",
    "prefix": "v0=",
    "timestamp_header": "X-Slack-Request-Timestamp",
    "content": "v0:{ts}:{body}",
    "id_path": "event_id",
}
_CHALLENGE_TYPE = "url_verification"
_MAX_CHALLENGE_BYTES = 4096  # Slack's is some 200; a larger body is a delivery


@dataclass(frozen=True, slots=True)
class Slack(Scheme):
    """Deliveries of the Events API, slash commands and interactions."""

    signature: KeyedHash

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Build from `secret(s)`, the signing secret of the app, and `tolerance`."""
        return cls(preset(options, _SLACK))

    @property
    def secret_headers(self) -> frozenset[str]:
        return self.signature.secret_headers

    def verify(self, signed: Signed, now: datetime) -> None:
        self.signature.verify(signed, now)

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        return self.signature.delivery_id(headers, data)

    def challenge(self, body: bytes) -> str | None:
        if len(body) > _MAX_CHALLENGE_BYTES or _CHALLENGE_TYPE.encode() not in body:
            return None
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or data.get("type") != _CHALLENGE_TYPE:
            return None
        found = data.get("challenge")
        return found if isinstance(found, str) and found.isascii() and found.isprintable() else None

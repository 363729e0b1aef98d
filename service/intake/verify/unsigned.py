"""`verify: none`: a door opened by choice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from service.intake.verify.base import Scheme, Signed


class Unsigned(Scheme):
    """Takes every delivery."""

    is_open = True
    secret_headers: frozenset[str] = frozenset()

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        return cls()

    def verify(self, signed: Signed, now: datetime) -> None:
        """Refuse nothing."""

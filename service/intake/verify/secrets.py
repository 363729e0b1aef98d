"""The secrets of a scheme: several at once for rotation, each perhaps with an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from service.intake.verify.base import Fault, SchemeError, Unverified


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret, as text, that counts until `not_after`."""

    text: str = field(repr=False)
    not_after: datetime | None = None

    def as_option(self) -> Mapping[str, Any]:
        """Return it as one of the `secrets` of a `verify`."""
        return {"secret": self.text, "not_after": self.not_after}


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, decoded to the bytes that the scheme computes with."""

    value: bytes = field(repr=False)
    not_after: datetime | None = None


def active_keys(keys: Sequence[Key], now: datetime) -> list[bytes]:
    """Return the keys that still count; raise Unverified when none does."""
    active = [key.value for key in keys if key.not_after is None or now <= key.not_after]
    if not active:
        raise Unverified(Fault.EXPIRED_SECRETS)
    return active


def read_secrets(options: Mapping[str, Any]) -> tuple[Secret, ...]:
    """Read `secret` and `secrets` of a `verify`. Raises SchemeError when there is none."""
    given = [options["secret"]] if options.get("secret") is not None else []
    several = options.get("secrets") or []
    if not isinstance(several, Sequence) or isinstance(several, str):
        raise SchemeError("`secrets` must be a list")
    found = tuple(_secret(item) for item in [*given, *several])
    if not found:
        raise SchemeError("it needs a `secret` (or `secrets`)")
    return found


def _secret(item: Any) -> Secret:
    if isinstance(item, Mapping):
        return Secret(_text(item.get("secret")), _moment(item.get("not_after")))
    return Secret(_text(item))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SchemeError("a secret must be a text that is not empty")
    return value


def _moment(value: Any) -> datetime | None:
    """Read an end; a bare date counts to the end of that day, a time without zone is UTC."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.max, tzinfo=UTC)
    if value is None:
        return None
    raise SchemeError("`not_after` must be a date or a time")


def _parsed(text: str) -> date | datetime:
    try:
        return date.fromisoformat(text) if len(text) == len("2024-01-31") else datetime.fromisoformat(text)
    except ValueError:
        raise SchemeError(f"`not_after` must be a date or a time, not {text!r}") from None

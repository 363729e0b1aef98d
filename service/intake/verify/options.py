"""Reads the options of a `verify`. What is wrong with one becomes a SchemeError that names it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from service.intake.verify.base import SchemeError

_DEFAULT_TOLERANCE = timedelta(minutes=5)


def read_text(options: Mapping[str, Any], name: str) -> str | None:
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise SchemeError(f"`{name}` must be a text")
    return value


def read_needed(options: Mapping[str, Any], name: str, what: str) -> str:
    """Return a text that must be there; `what` says what it is."""
    found = (read_text(options, name) or "").strip()
    if not found:
        raise SchemeError(f"it needs `{name}`, {what}")
    return found


def read_header(options: Mapping[str, Any], name: str) -> str | None:
    """Return the name of a header, in lower case."""
    return (read_text(options, name) or "").strip().lower() or None


def read_texts(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts; one text alone is a list of one."""
    value = options.get(name) or ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(item, str) for item in given):
        raise SchemeError(f"`{name}` must be a list of texts")
    return tuple(given)


def read_headers(options: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return names of headers, in lower case."""
    found = (item.strip().lower() for item in read_texts(options, name))
    return tuple(item for item in found if item)


def read_choice(options: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in known:
        raise SchemeError(f"`{name}` must be one of {', '.join(known)}")
    return str(value)


def read_tolerance(options: Mapping[str, Any], default: timedelta = _DEFAULT_TOLERANCE) -> timedelta:
    """Read `tolerance`, in seconds; it cannot be turned off."""
    seconds = options.get("tolerance", default.total_seconds())
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 86_400:
        raise SchemeError("`tolerance` must be a number of seconds, more than 0 and at most a day")
    return timedelta(seconds=seconds)


def read_url(options: Mapping[str, Any]) -> str | None:
    """Read `url`: the address that the sender posts to, where a proxy shows us another one."""
    url = read_text(options, "url")
    if url is not None and (not url.startswith(("https://", "http://")) or "?" in url or "#" in url):
        raise SchemeError("`url` must be the public address, such as https://hooks.example.com/webhooks/a/b")
    return url

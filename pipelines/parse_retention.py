"""Reads how long a trigger wants its events kept."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.parse_fields import Section, duration_seconds

_KEYS = ("payload", "events")


def read_retention(section: Section) -> Mapping[str, float] | None:
    """Return `retention` in seconds: `payload` of the data of events, `events` of all that is known."""
    if "retention" not in section:
        return None
    inner = section.section("retention", f"{section.what}, retention")
    inner.unknown_keys("retention", _KEYS)
    found: dict[str, float] = {}
    for key in _KEYS:
        if key not in inner:
            continue
        try:
            found[key] = duration_seconds(inner.get(key))
        except ValueError as error:
            inner.error(key, f"`{key}`: {error}")
    if not found and not inner.values:
        section.error(
            "retention", "`retention` is empty; give it `payload`, `events`, or both, e.g. payload: 7d"
        )
    return found

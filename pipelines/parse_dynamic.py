"""Checks the keys of a block's configuration that say how often it runs: for items, and as a sensor."""

from __future__ import annotations

from pipelines.parse_fields import Section

COMBINE = ("product", "zip")


def check_repetition(section: Section) -> None:
    """Report what is wrong with `dynamic`, `reduce_output`, `dynamic_combine` and `poll_interval`."""
    configuration = section.section("configuration", section.what)
    if isinstance(configuration.get("dynamic"), dict):
        configuration.warning(
            "dynamic", "`dynamic` is true or false here; the modes of a mapping are not there, and it is true"
        )
    else:
        configuration.boolean("dynamic", default=False)
    configuration.boolean("reduce_output", default=False)
    if configuration.text("dynamic_combine", COMBINE[0]) not in COMBINE:
        configuration.error("dynamic_combine", f"`dynamic_combine` must be one of {', '.join(COMBINE)}")
    configuration.seconds("poll_interval")

"""Checks the keys of a block's configuration that say how often it runs: for items, and as a sensor."""

from __future__ import annotations

from pipelines.parse_fields import Section

COMBINE = ("product", "zip")
_OF_A_MAPPING = ("parent", "child", "reduce_output")  # a child is known by what stands above it


def check_repetition(section: Section) -> None:
    """Report what is wrong with `dynamic`, `reduce_output`, `dynamic_combine` and `poll_interval`."""
    configuration = section.section("configuration", section.what)
    if isinstance(configuration.get("dynamic"), dict):
        _check_mapping(configuration.section("dynamic", f"{section.what}, dynamic"))
    else:
        configuration.boolean("dynamic", default=False)
    configuration.boolean("reduce_output", default=False)
    if configuration.text("dynamic_combine", COMBINE[0]) not in COMBINE:
        configuration.error("dynamic_combine", f"`dynamic_combine` must be one of {', '.join(COMBINE)}")
    configuration.seconds("poll_interval")


def _check_mapping(dynamic: Section) -> None:
    """Report what has no effect in Mage's newer form of `dynamic`."""
    for key in _OF_A_MAPPING:
        dynamic.boolean(key, default=False)
    for key in dynamic.values:
        if key not in _OF_A_MAPPING:
            dynamic.warning(key, f"`{key}` has no effect; `parent` and `reduce_output` do")

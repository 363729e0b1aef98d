"""Checks the keys of a block's configuration that say how often it runs: for items, and as a sensor."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.model import ADD_ONS, Block, BlockType
from pipelines.parse_fields import Findings, Section

COMBINE = ("product", "zip")
_OF_A_MAPPING = ("parent", "child", "reduce_output")  # a child is known by what stands above it
WITHOUT_OUTPUT = (BlockType.SENSOR, *ADD_ONS)  # what they return is an answer, and goes no further


def check_repetition(section: Section, type: BlockType) -> None:
    """Report what is wrong with `dynamic`, `reduce_output`, `dynamic_combine` and `poll_interval`."""
    configuration = section.section("configuration", section.what)
    if isinstance(configuration.get("dynamic"), dict):
        mapping = configuration.section("dynamic", f"{section.what}, dynamic")
        _check_mapping(mapping)
        is_dynamic = mapping.get("parent") is True
    else:
        is_dynamic = configuration.boolean("dynamic", default=False)
    if is_dynamic and type in WITHOUT_OUTPUT:
        configuration.error("dynamic", f"a {type} returns no items; let a block after it be `dynamic`")
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


def warn_of_idle_keys(blocks: Sequence[Block], findings: Findings) -> None:
    """Warn of `reduce_output` and `dynamic_combine` of blocks that run only once. Upstream comes first."""
    sources: set[str] = set()  # what follows these runs more than once
    for block in blocks:
        has_children = any(name in sources for name in block.upstream)
        for key in ("reduce_output", "dynamic_combine"):
            if block.configuration.get(key) and not has_children:
                findings.warning(
                    block.line,
                    f"block '{block.name}': `{key}` has no effect, since no block before it is `dynamic`",
                )
        if block.is_dynamic or (has_children and not block.reduces_output):
            sources.add(block.name)

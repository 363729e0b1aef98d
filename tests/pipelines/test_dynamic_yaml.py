"""What is wrong with the keys that say how often a block runs."""

from __future__ import annotations

from pathlib import Path

from tests.pipelines.projects import ProjectFolder, errors, warnings_of


def test_what_returns_nothing_has_neither_items_nor_checks(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path)
    folder.pipeline(
        "taxi",
        """\
        blocks:
        - name: there
          type: sensor
          configuration: {dynamic: true}
          checks: [{row_count: {min: 1}}]
        """,
    )

    said = [message for _, message in errors(folder.load())]

    assert "block 'there': a sensor returns no table to check; take its `checks` away" in said
    assert "block 'there': a sensor returns no items; let a block after it be `dynamic`" in said


def test_keys_of_children_are_told_of_where_a_block_has_none(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path)
    for name in ("cities", "once", "clean", "total"):
        folder.block(name, "custom")
    folder.pipeline(
        "taxi",
        """\
        blocks:
        - {name: once, type: custom, configuration: {reduce_output: true, dynamic_combine: zip}}
        - {name: cities, type: custom, configuration: {dynamic: true}}
        - {name: clean, type: custom, upstream_blocks: [cities], configuration: {reduce_output: true}}
        - {name: total, type: custom, upstream_blocks: [clean], configuration: {reduce_output: true}}
        """,
    )

    assert warnings_of(folder.load()) == [
        "block 'once': `dynamic_combine` has no effect, since no block before it is `dynamic`",
        "block 'once': `reduce_output` has no effect, since no block before it is `dynamic`",
        "block 'total': `reduce_output` has no effect, since no block before it is `dynamic`",
    ]

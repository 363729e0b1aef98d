"""What every connector of the registry promises when something goes wrong on the way, on real parts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, cast

import pandas as pd
import pytest

from pipelines.crash import CONNECTOR_POINTS
from pipelines.io.errors import ConnectorError
from pipelines.io.objects.connector import ObjectConnector
from tests.pipelines.io.exporting_child import attempt
from tests.pipelines.io.harnesses import HARNESSES, Harness
from tests.pipelines.io.projects import running_block

MODES = ("replace", "append", "merge", "fail")


def _options(harness: Harness, mode: str) -> dict[str, Any]:
    if mode in harness.lacks:
        pytest.skip(harness.lacks[mode])
    if mode == "append":
        return harness.append
    return {"if_exists": mode, **({"keys": "a"} if mode == "merge" else {})}


def _breaking() -> Iterator[pd.DataFrame]:
    yield pd.DataFrame({"a": [1, 2], "b": ["new", "new"]})
    yield pd.DataFrame({"a": [3], "b": ["new"]})
    raise RuntimeError("no more")


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_that_breaks_leaves_what_was_there(harness: Harness, mode: str) -> None:
    options = _options(harness, mode)
    if mode != "fail":
        harness.export(pd.DataFrame({"a": [1], "b": ["old"]}), "kept", **options)

    with pytest.raises(RuntimeError, match="no more"):
        harness.export(_breaking(), "kept", **options)
    with running_block(harness.root), pytest.raises(RuntimeError, match="no more"):
        harness.export(_breaking(), "kept", **options)

    if mode == "fail":
        with pytest.raises(ConnectorError):
            harness.load("kept")
    else:
        assert harness.rows("kept") == [{"a": 1, "b": "old"}]


def test_a_replacement_by_other_columns_that_breaks_leaves_the_old_table(harness: Harness) -> None:
    harness.export(pd.DataFrame({"other": [1]}))

    with pytest.raises(RuntimeError, match="no more"):
        harness.export(_breaking())

    assert harness.rows() == [{"other": 1}]


@pytest.mark.parametrize("mode", MODES)
def test_a_block_tried_again_writes_once(harness: Harness, mode: str) -> None:
    options, frame = _options(harness, mode), pd.DataFrame({"a": [1, 2]})

    for number in (1, 2):
        with running_block(harness.root, attempt=number) as context:
            harness.export(frame, "once", **options)
            assert context.effects.rows == 2

    assert len(harness.load("once")) == 2


def test_each_write_of_a_block_and_each_run_counts(harness: Harness) -> None:
    frame = pd.DataFrame({"a": [1, 2]})

    for run, number in (("run-1", 1), ("run-1", 2), ("run-2", 1)):
        with running_block(harness.root, run_id=run, attempt=number) as context:
            harness.export(frame, "counted", **harness.append)
            harness.export(frame, "counted", **harness.append)
            assert context.effects.rows == 4

    assert len(harness.load("counted")) == 8


def test_rows_are_there_once_after_a_kill_and_another_try(harness: Harness) -> None:
    """At every step of two appends, a replacement by other columns, and a merge, or else a new target."""
    ended, found = {}, {}

    for number, point in enumerate(harness.crash_points):
        added, swapped, last = (f"{name}_{number}" for name in ("added", "swapped", "last"))
        harness.export(pd.DataFrame({"other": ["x"]}), swapped)
        merge = {"if_exists": "fail"}
        if "merge" not in harness.lacks:
            harness.export(pd.DataFrame({"part": [9], "row": [0]}), last)
            merge = {"if_exists": "merge", "keys": "row"}
        exports = [
            (harness.target(added), harness.append),
            (harness.target(added), harness.append),
            (harness.target(swapped), {"if_exists": "replace"}),
            (harness.target(last), merge),
        ]
        name = harness.connector.__name__
        for part in (0, 2, 3):
            # Each dies in that export, or the first one after it that comes to the point.
            ended[point, part] = attempt(harness.root, name, exports, point, part, run_id=f"run-{number}")
        ended[point, "whole"] = attempt(harness.root, name, exports, "", 0, run_id=f"run-{number}")
        found[point] = (
            len(harness.load(added)),
            harness.load(swapped)["part"].tolist(),
            harness.load(last)["part"].tolist(),
        )

    assert found == dict.fromkeys(harness.crash_points, (6, [2] * 3, [3] * 3))
    assert all(ended[point, "whole"] == 0 for point in harness.crash_points)
    assert {point for (point, _), code in ended.items() if code == -signal.SIGKILL} == set(
        harness.crash_points
    )


@pytest.mark.parametrize("harness", ["Files", "GoogleCloudStorage", "S3"], indirect=True)
def test_a_dataset_shows_the_old_rows_or_the_new_ones_after_a_kill(harness: Harness) -> None:
    options = {"partition_cols": ["part"]}
    name, exports = harness.connector.__name__, [(harness.target("days"), options)]
    old, new = [8, 9], [0, 0, 0]

    for point in harness.crash_points:
        harness.export(pd.DataFrame({"part": old, "row": [0, 0]}), "days", **options)

        died = attempt(harness.root, name, exports, point, 0, run_id=point)
        assert died == (0 if (name, point) == ("Files", "effect.part") else -signal.SIGKILL)
        assert sorted(harness.load("days")["part"]) == (
            new if point == "effect.after_commit" or died == 0 else old
        )

        assert attempt(harness.root, name, exports, "", 0, run_id=point) == 0
        assert sorted(harness.load("days")["part"]) == new

    if name != "Files":
        made = cast(ObjectConnector, harness.made())
        (bucket, key) = harness.target("days")
        assert len(made.list(bucket, f"{key}/")) == 2  # the list of parts, and one part


def test_every_crash_point_of_a_connector_is_visited() -> None:
    visited = {point for kind in HARNESSES.values() for point in kind.crash_points}

    assert visited == {point for point in CONNECTOR_POINTS if point.startswith("effect.")}

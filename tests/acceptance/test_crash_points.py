"""Every commit of the store is a place to die at; none of them loses or doubles anything."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from service.store.session import ALL_CRASH_POINTS, Commit
from tests.acceptance.crash_scenario import play
from tests.parts.forked import forked

pytestmark = pytest.mark.acceptance

SECONDS = 60


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'millrace.db'}"
    return request.getfixturevalue("empty_postgres_url")


def test_every_commit_has_a_point_on_either_side():
    named = {point.rpartition(".")[0] for point in ALL_CRASH_POINTS}

    assert named == {str(commit) for commit in Commit}
    assert len(ALL_CRASH_POINTS) == 2 * len(Commit)


@pytest.mark.parametrize("point", sorted(ALL_CRASH_POINTS))
def test_a_crash_at_any_point_is_made_good_by_the_next_start(point, store_url, tmp_path):
    assert _scenario(store_url, tmp_path, point) == (-signal.SIGKILL, None), f"{point} was not visited"

    assert _scenario(store_url, tmp_path, None) == (0, EXPECTED)


EXPECTED = {
    "events": [
        ["files:/in", "a.csv", "ran"],
        ["schedule:p/nightly", "2026-01-02T00:00:00Z", "ran"],
        ["settle:p/t", "batch", "ran"],
        ["webhook:p/t", "delivery-1", "ran"],
        ["webhook:p/t", "delivery-1#replay:1", "filtered"],
        ["webhook:p/t", "first", "batched"],
        ["webhook:p/t", "second", "batched"],
    ],
    "runs": [
        ["2026-01-02T00:00:00Z", "succeeded", 1],
        ["a.csv", "succeeded", 1],
        ["batch", "succeeded", 1],
        ["by hand", "succeeded", 1],
        ["by hand", "succeeded", 2],
        ["delivery-1", "succeeded", 1],
    ],
    "backfills": [["finished", "succeeded"]],
    "blocks": [["only", "succeeded", 1, 3]] * 6,
    "ticks": [["nightly", "ran"]],
    "sensors": [["files", '{"after":"a.csv"}']],
    "sensor_ticks": [["files", 1]],
    "ends": [[6, 6]],
    "outgoing": [["sent", 6, 6]],
}


def _scenario(url: str, home: Path, point: str | None) -> tuple[int | None, object]:
    """Play the scenario in a process of its own; return its exit code and its answer."""
    answers, told = multiprocessing.Pipe(duplex=False)
    process = forked(play, url, home, point, told)
    told.close()
    try:
        answer = answers.recv() if answers.poll(SECONDS) else None
    except EOFError:
        answer = None  # it died before it came to its end
    process.join(SECONDS)
    return process.exitcode, answer

"""Every commit of the store is a place to die at; none of them loses or doubles anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.store.session import ALL_CRASH_POINTS, Commit

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'millrace.db'}"
    return request.getfixturevalue("postgres_url")


def test_every_commit_has_a_point_on_either_side():
    named = {point.rpartition(".")[0] for point in ALL_CRASH_POINTS}

    assert named == {str(commit) for commit in Commit}
    assert len(ALL_CRASH_POINTS) == 2 * len(Commit)


@pytest.mark.parametrize("point", sorted(ALL_CRASH_POINTS))
def test_a_crash_at_any_point_is_made_good_by_the_next_start(point, store_url, tmp_path):
    crashed = _scenario(store_url, tmp_path, point)
    assert crashed.returncode == -signal.SIGKILL, f"{point} was not visited:\n{crashed.stderr}"

    again = _scenario(store_url, tmp_path)

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == EXPECTED


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


def _scenario(url: str, home: Path, *point: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.acceptance.crash_scenario", url, str(home), *point]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)

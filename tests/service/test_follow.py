"""What `run` and `runs watch` print without a terminal: a line per change, in the order of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.cli.follow import LineView
from service.store.values import BlockRun, BlockState, Run, RunState

NOW = datetime(2024, 1, 31, 5, tzinfo=UTC)
LOAD = BlockRun("load", "data_loader", BlockState.RUNNING, attempt=1, started_at=NOW)
RUNNING = Run("r1", "shop", "daily", RunState.RUNNING, NOW, NOW, {}, started_at=NOW, blocks=(LOAD,))


def shown(capsys: pytest.CaptureFixture[str], *runs: Run) -> list[str]:
    with LineView() as view:
        for run in runs:
            view.show(run)
    return capsys.readouterr().out.splitlines()


def test_run_goes_on_before_its_blocks_and_ends_after_them(capsys: pytest.CaptureFixture[str]) -> None:
    end = NOW + timedelta(seconds=2)
    done = replace(LOAD, state=BlockState.SUCCEEDED, rows=3, finished_at=end)
    finished = replace(RUNNING, state=RunState.SUCCEEDED, finished_at=end, blocks=(done,))

    assert shown(capsys, RUNNING, RUNNING, finished) == [
        "run r1 pipeline=daily execution_date=2024-01-31T05:00:00Z",
        "run running",
        "block load running attempt=1",
        "block load succeeded attempt=1 rows=3 took=2.00s",
        "run succeeded took=2.00s",
    ]


def test_waiting_run_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = replace(RUNNING, state=RunState.WAITING, available_at=NOW + timedelta(minutes=1))

    assert shown(capsys, waiting)[-1] == "run waiting until=2024-01-31T05:01:00Z"

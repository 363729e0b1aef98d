"""One active run between a process that only notes what it is told and a real store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.clock import utc_now
from service.running.active_run import ActiveRun
from service.running.endings import Limits
from service.running.executors.base import Message
from service.store import runs
from service.store.session import Commit, Database, GroupCommit
from service.store.values import BlockState, Report, Run, RunState
from tests.parts.stores import opened_store, sqlite_url
from tests.parts.waiting import wait_until
from tests.store.builders import claimed, get

LIMITS = Limits(memory_mb=1000, drain_seconds=10, lease_seconds=15)


class NotingProcess:
    """A process that does nothing by itself."""

    def __init__(self) -> None:
        self.last_heard = time.monotonic()
        self.is_stopped = False
        self.sent: list[Message] = []
        self.kills = 0

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def kill(self) -> None:
        self.kills += 1

    def memory_bytes(self) -> int:
        return 0


class Scene:
    """A claimed run, and the engine's side of it."""

    def __init__(self, database: Database, *, max_queue: int = 100, lease_seconds: float = 15) -> None:
        self.database = database
        self.reports: GroupCommit[Report, bool] = GroupCommit(
            database, Commit.REPORT, runs.apply, max_queue=max_queue
        )
        self.process = NotingProcess()
        self.ended: list[ActiveRun] = []
        self.claim = claimed(database)
        self.run = ActiveRun(
            self.claim,
            {"type": "run"},
            lease_until=time.monotonic() + lease_seconds,
            reports=self.reports,
            clock=utc_now,
            limits=LIMITS,
            on_end=self.ended.append,
            on_call=lambda run, message: None,
        )

    def start_block(self, block: str = "load", **keys: Any) -> None:
        limits = {"timeout_seconds": None, "memory_mb": None, "retry_seconds": None}
        started = {"type": "started", "block": block, "attempt": 1, "at": utc_now().isoformat()}
        self.run.on_message({**started, **limits, **keys})

    def end_block(self, block: str = "load") -> None:
        self.run.on_message(
            {
                "type": "ended",
                "block": block,
                "state": "succeeded",
                "attempt": 1,
                "at": utc_now().isoformat(),
                "rows": None,
                "error": None,
                "retry_at": None,
                "checkpoint": None,
                "volatile": True,
                "reason": None,
            }
        )

    def checked(self) -> NotingProcess:
        """Hold the limits once, and return what the process was told."""
        self.run.check()
        return self.process

    def stored(self) -> Run:
        """Return the run once all reports are in the store."""
        self.reports.close()
        return get(self.database, self.run.id)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    scenes = []
    with opened_store(sqlite_url(tmp_path), tmp_path) as database:

        def begin(**keys: Any) -> Scene:
            scene = Scene(database, **keys)
            scenes.append(scene)
            scene.reports.start()
            return scene

        yield begin
        for scene in scenes:
            scene.reports.close()


def test_the_death_of_a_process_is_counted_against_its_running_blocks(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.start_block()

    scene.run.on_death(-9)

    run = scene.stored()
    assert (run.state, run.blocks[0].state) == (RunState.QUEUED, BlockState.QUEUED)
    assert (run.blocks[0].deaths, run.blocks[0].attempt) == (1, 0)


def test_a_signal_without_a_name_is_a_death_like_any_other(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.start_block()

    scene.run.on_death(-40)

    assert scene.stored().state is RunState.QUEUED


def test_a_run_given_back_costs_neither_a_death_nor_a_try(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.start_block()

    scene.run.give_back()
    scene.run.on_death(-9)

    run = scene.stored()
    assert scene.process.kills == 1
    assert (run.state, run.blocks[0].state) == (RunState.QUEUED, BlockState.QUEUED)
    assert (run.blocks[0].deaths, run.blocks[0].attempt) == (0, 0)


def test_no_block_is_to_blame_when_the_lease_could_not_be_renewed(begin: Callable[..., Scene]) -> None:
    scene = begin(lease_seconds=-1)
    scene.run.attach(scene.process)
    scene.start_block()

    scene.run.on_death(-9)

    assert scene.stored().blocks[0].deaths == 0


def test_a_run_that_waits_for_a_process_can_be_cancelled(begin: Callable[..., Scene]) -> None:
    scene = begin()

    scene.run.cancel()

    assert scene.ended == [scene.run]
    assert not scene.run.attach(scene.process)
    assert scene.stored().state is RunState.CANCELLED


def test_a_late_process_hears_of_the_lease_as_it_is_now(begin: Callable[..., Scene]) -> None:
    scene = begin()
    until = time.monotonic() + 99

    scene.run.renewed(until)

    assert scene.run.message == {"type": "run", "lease_until": until}


def test_an_ended_run_tells_its_process_nothing_more(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.run.on_message({"type": "result", "state": "succeeded", "error": None, "retry_at": None})

    scene.run.renewed(time.monotonic())
    scene.run.drain()
    scene.run.cancel()

    assert (scene.process.sent, scene.process.kills) == ([], 0)
    assert scene.stored().state is RunState.SUCCEEDED


def test_a_run_over_the_time_of_its_pipeline_fails_and_says_so(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.run.on_message({"type": "began", "timeout_seconds": 0.001})
    scene.start_block(retry_seconds=1)

    wait_until(lambda: scene.checked().kills, what="the end of its time")
    scene.run.on_death(-9)

    run = scene.stored()
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert "longer than the timeout of its pipeline, 0.001 s" in run.error
    assert "pipelines/taxi/metadata.yaml" in run.error
    assert [block.state for block in run.blocks] == [
        BlockState.FAILED,
        BlockState.CANCELLED,
        BlockState.CANCELLED,
    ]


def test_a_block_over_its_time_is_tried_again_and_its_siblings_lose_nothing(
    begin: Callable[..., Scene],
) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.start_block("load", timeout_seconds=0.001, retry_seconds=60)
    scene.start_block("clean")

    wait_until(lambda: scene.checked().sent == [{"type": "drain"}], what="the drain")
    assert scene.process.kills == 0  # the sibling may go on for a while
    scene.run.on_death(-9)

    load, clean, _ = scene.stored().blocks
    assert (load.state, load.attempt, load.deaths) == (BlockState.WAITING, 1, 0)
    assert load.retry_at is not None
    assert load.retry_at > utc_now() + timedelta(seconds=30)
    assert (clean.state, clean.attempt, clean.deaths) == (BlockState.QUEUED, 0, 0)


def test_nobody_is_killed_for_a_late_block_that_ends_after_all(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.start_block("load", timeout_seconds=0.001)
    scene.start_block("clean")
    wait_until(lambda: scene.checked().sent == [{"type": "drain"}], what="the drain")

    scene.end_block("load")
    scene.run.check()
    scene.run.on_message({"type": "result", "state": "stopped", "error": None, "retry_at": None})

    assert scene.process.kills == 0
    assert scene.stored().blocks[0].state is BlockState.SUCCEEDED


def test_a_result_that_comes_before_the_kill_counts(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.run.cancel()

    scene.run.on_message({"type": "result", "state": "succeeded", "error": None, "retry_at": None})
    scene.run.on_death(-9)

    assert scene.stored().state is RunState.SUCCEEDED


def test_silence_alone_does_not_cost_the_lease(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.process.last_heard -= 100

    assert not scene.run.is_silent  # a block may hold the interpreter's lock

    scene.process.is_stopped = True
    assert scene.run.is_silent


def test_a_run_whose_reports_cannot_be_taken_is_given_up(begin: Callable[..., Scene]) -> None:
    scene = begin()
    scene.run.attach(scene.process)
    scene.reports.close()

    scene.start_block()
    scene.end_block()

    assert scene.process.kills == 1

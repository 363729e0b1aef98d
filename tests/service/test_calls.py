"""Blocks that start other pipelines and wait for them, with real worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.store import runs
from service.store.session import Commit
from service.store.values import Run, RunState
from tests.parts.projects import BlockFile
from tests.parts.waiting import wait_until
from tests.service.test_worker import NOTE, Bench


class Calls(Bench):
    """A bench whose runs start runs."""

    def block(self, name: str, body: str, **keys: Any) -> BlockFile:
        lines = "\n".join("    " + line for line in body.strip().splitlines())
        code = f"{NOTE}\nfrom pipelines import *\n@custom\ndef {name}(*args, **kwargs):\n{lines}\n"
        return BlockFile(name, code, **keys)

    def run(self, pipeline: str) -> Run:
        """Run a pipeline that may have been written a moment ago."""
        assert self.runtime is not None
        self.runtime.projects.refresh()
        return self.finished(self.launch(pipeline))

    def said(self, *blocks: str) -> list[str]:
        """Return what these blocks have noted."""
        return [line for line in self.journal() if line.partition(" ")[0] in blocks]

    def children(self, run_id: str) -> list[Run]:
        assert self.runtime is not None
        with self.runtime.database.read() as connection:
            return runs.listing(connection, runs.RunFilters(parent_run_id=run_id))

    def all_of(self, pipeline: str) -> list[Run]:
        assert self.runtime is not None
        with self.runtime.database.read() as connection:
            return runs.listing(connection, runs.RunFilters(pipeline=pipeline))

    def cancel(self, run_id: str) -> None:
        assert self.runtime is not None
        self.runtime.database.write(Commit.CANCEL, lambda tx: runs.cancel(tx, run_id))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Calls]:
    bench = Calls(tmp_path)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """A worker of one slot for tests that leave it as it was."""
    bench = Calls(tmp_path_factory.mktemp("calls"))
    bench.start(slots=1)
    yield bench
    bench.close()


def test_a_block_starts_a_pipeline_and_waits_in_the_only_slot(running: Calls) -> None:
    """Through three levels: each run that waits lends its slot."""
    running.pipeline("low", running.block("end", "note(kwargs, ' ' + kwargs['ds'])\nreturn 7"))
    call = "trigger_pipeline('{}', {{'n': 1}}, check_status=True, error_on_failure=True)"
    running.pipeline("middle", running.block("mid", call.format("low")))
    body = f"""
run = {call.format("middle")}
assert (run.state, run.status, run.variables) == ("succeeded", "completed", {{"n": 1}})
return get_variable("low", "end")
"""
    running.pipeline("high", running.block("top", body))

    high = running.run("high")

    assert (high.state, high.error) == (RunState.SUCCEEDED, None)
    (middle,) = running.children(high.id)
    (low,) = running.children(middle.id)
    assert low.execution_date == middle.execution_date == high.execution_date
    assert (middle.pipeline, low.pipeline, low.hops) == ("middle", "low", 2)
    assert running.said("end") == [f"end {high.execution_date:%Y-%m-%d}"]


def test_a_block_that_is_killed_after_its_call_finds_the_run_it_started(bench: Calls) -> None:
    bench.pipeline("child", bench.block("work", "note(kwargs)"))
    body = """
import signal
run = trigger_pipeline("child")
note(kwargs, " " + run.id)
if not Path(kwargs["folder"], "killed").exists():
    Path(kwargs["folder"], "killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)
assert trigger_pipeline("child", key="other").id != run.id
"""
    bench.pipeline("parent", bench.block("calls", body))
    bench.start(slots=1)

    parent = bench.finished(bench.launch("parent"))

    assert (parent.state, parent.error) == (RunState.SUCCEEDED, None)
    first, again = [line for line in bench.journal() if line.startswith("calls")]
    assert first == again
    assert len(bench.children(parent.id)) == 2
    wait_until(lambda: bench.journal().count("work") == 2, seconds=20, what="both runs")


def test_a_run_sees_the_variable_that_was_written_before_it_was_started(running: Calls) -> None:
    running.pipeline("counts", running.block("tells", "note(kwargs, f' {kwargs.get(\"mark\")}')"))
    body = """
set_global_variable("counts", "mark", 5)
trigger_pipeline("counts", check_status=True)
"""
    running.pipeline("sets", running.block("writes", body))

    assert running.run("sets").state is RunState.SUCCEEDED

    assert running.said("tells") == ["tells 5"]


def test_a_pipeline_cannot_run_within_itself(running: Calls) -> None:
    running.pipeline("round", running.block("calls_about", "trigger_pipeline('about', check_status=True)"))
    running.pipeline(
        "about",
        running.block("calls_back", "trigger_pipeline('round')"),
        running.block("asks", "trigger_pipeline('nowhere')"),
    )

    run = running.run("round")

    (child,) = running.children(run.id)
    errors = {block.name: block.error or "" for block in child.blocks}
    assert run.state is RunState.SUCCEEDED  # it waited, and did not ask for an error
    assert "'round' would run within itself (round > about > round)" in errors["calls_back"]
    assert "no pipeline 'nowhere'; it has: about, " in errors["asks"]


def test_a_new_try_of_the_block_lets_the_failed_run_go_on(running: Calls) -> None:
    body = """
note(kwargs)
if not Path(kwargs["folder"], "mended").exists():
    Path(kwargs["folder"], "mended").touch()
    raise ValueError("not yet mended")
"""
    running.pipeline(
        "breaks",
        running.block("begin", "note(kwargs)"),
        running.block("fails_once", body, upstream=["begin"]),
    )
    calls = running.block(
        "calls_again",
        "trigger_pipeline('breaks', check_status=True, error_on_failure=True)",
        keys={"retry_config": {"retries": 1, "delay": 0}},
    )
    running.pipeline("tries", calls)

    run = running.run("tries")

    assert (run.state, run.blocks[0].attempt) == (RunState.SUCCEEDED, 2)
    assert len(running.children(run.id)) == 1
    assert running.said("begin", "fails_once") == ["begin", "fails_once", "fails_once"]


def test_cancelling_a_run_cancels_the_one_that_it_waits_for(bench: Calls) -> None:
    bench.pipeline("child", bench.block("work", "note(kwargs)\nwait_for(kwargs, 'go')"))
    bench.pipeline("parent", bench.block("calls", "trigger_pipeline('child', check_status=True)"))
    bench.start(slots=1)
    run_id = bench.launch("parent")
    bench.wait_for_block("work")

    bench.cancel(run_id)

    assert bench.finished(run_id).state is RunState.CANCELLED
    (child,) = bench.children(run_id)
    assert bench.finished(child.id).state is RunState.CANCELLED


def test_a_wait_ends_with_its_own_time_or_that_of_the_block(bench: Calls) -> None:
    bench.pipeline("child", bench.block("work", "wait_for(kwargs, 'go')"))
    waits = "trigger_pipeline('child', check_status=True, poll_timeout={})"
    bench.pipeline(
        "parent",
        bench.block("patient", waits.format(0.2)),
        bench.block("blocked", waits.format(600), keys={"timeout": 1}),
        allow_blocks_to_fail=True,
    )
    bench.start(slots=1, drain_seconds=0)

    run_id = bench.launch("parent")
    run = bench.finished(run_id)

    errors = {block.name: block.error or "" for block in run.blocks}
    assert "was still" in errors["patient"]
    assert "the poll_timeout of" in errors["patient"]
    assert "longer than its timeout of 1 s" in errors["blocked"]
    assert [child.state.is_final for child in bench.children(run_id)] == [False, False]


def test_a_stopping_worker_gives_runs_back_that_only_wait(bench: Calls) -> None:
    """At once: their children may take longer than any stop. Another worker finds the same child."""
    bench.pipeline("child", bench.block("work", "note(kwargs)\nwait_for(kwargs, 'go')"))
    bench.pipeline("parent", bench.block("calls", "trigger_pipeline('child', check_status=True)"))
    worker = bench.start(slots=1, drain_seconds=60)
    run_id = bench.launch("parent")
    bench.wait_for_block("work")

    worker.drain()
    wait_until(lambda: bench.get(run_id).state is RunState.QUEUED, seconds=20, what="the run given back")
    bench.go()
    worker.stop()
    bench.start()

    assert bench.finished(run_id).state is RunState.SUCCEEDED
    assert [child.state for child in bench.children(run_id)] == [RunState.SUCCEEDED]
    assert bench.get(run_id).blocks[0].deaths == 0

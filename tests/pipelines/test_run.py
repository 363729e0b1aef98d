"""Walking the graph: what starts when, what others may see, how failures spread, how a run is resumed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipelines.model import RetryPolicy
from pipelines.run import BlockProgress, BlockReport
from tests.pipelines.running import Bench, Listener, now, python

FRAME = """
import pandas as pd
@data_loader
def f():
    return pd.DataFrame({'a': [1.0, 2.0], 'b': ['x', 'y']})
"""
LARGE_FRAME = FRAME.replace("[1.0, 2.0], 'b': ['x', 'y']", "range(5000)")  # stored in a file
PASS_ON = "@transformer\ndef f(data):\n    return data\n"
EXPORT = "@data_exporter\ndef f(*data):\n    return 'exported'\n"
FAIL = "@transformer\ndef f(*data):\n    raise ValueError('no')\n"
SECONDS = 10  # within which what a test waits for must happen


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def flaky(bench: Bench, failures: int, decorator: str = "data_loader") -> str:
    """Return the source of a block that fails that often before it returns 'done'."""
    return f"""
from pathlib import Path

@{decorator}
def f(*args):
    count = Path({str(bench.root / "tries")!r})
    tries = len(count.read_text()) if count.exists() else 0
    count.write_text("x" * (tries + 1))
    if tries < {failures}:
        raise OSError(f"try {{tries + 1}}")
    return "done"
"""


def test_a_chain_runs_in_order_and_reports_rows(bench: Bench) -> None:
    result = bench.run(python("a", FRAME), python("b", PASS_ON, "a"), python("c", EXPORT, "b"))

    assert result.state == "succeeded"
    assert [name for kind, name in bench.listener.calls if kind == "started"] == ["a", "b", "c"]
    assert [(report.block, report.state, report.rows) for report in bench.listener.reports] == [
        ("a", "succeeded", 2),
        ("b", "succeeded", 2),
        ("c", "succeeded", None),
    ]


def test_a_report_comes_after_its_checkpoint_is_readable(bench: Bench) -> None:
    readable: list[bool] = []

    def commit(report: BlockReport, future: Future[None]) -> None:
        assert report.checkpoint is not None
        readable.append(bench.checkpoints.has(report.checkpoint))
        future.set_result(None)

    bench.listener = Listener(commit)
    bench.run(python("a", FRAME), python("b", PASS_ON, "a"))

    assert readable == [True, True]


def test_independent_branches_run_side_by_side(bench: Bench) -> None:
    meet = """
import threading
from tests.pipelines import test_run

@data_loader
def f():
    test_run.BARRIER.wait(10)
"""

    result = bench.run(python("a", meet), python("b", meet), python("c", meet))

    assert result.state == "succeeded"


BARRIER = threading.Barrier(3)


def test_a_transformer_starts_before_its_input_is_committed(bench: Bench) -> None:
    started = threading.Event()

    class Watching(Listener):
        def block_started(self, block: str, attempt: int, at: datetime) -> None:
            super().block_started(block, attempt, at)
            if block == "b":
                started.set()

    def commit(report: BlockReport, future: Future[None]) -> None:
        if report.block == "a":
            assert started.wait(SECONDS), "b waited for a's commit"
        future.set_result(None)

    bench.listener = Watching(commit)

    assert bench.run(python("a", FRAME), python("b", PASS_ON, "a")).state == "succeeded"


def test_an_exporter_waits_until_its_input_is_committed(bench: Bench) -> None:
    committed: list[str] = []
    store = ThreadPoolExecutor(1)  # commits late, but in the order of the reports, as every store does

    def commit(report: BlockReport, future: Future[None]) -> None:
        def later() -> None:
            threading.Event().wait(0.05)
            committed.append(report.block)
            future.set_result(None)

        store.submit(later)

    class Watching(Listener):
        def block_started(self, block: str, attempt: int, at: datetime) -> None:
            super().block_started(block, attempt, at)
            if block == "c":
                assert committed == ["a", "b"]

    bench.listener = Watching(commit)

    assert (
        bench.run(python("a", FRAME), python("b", PASS_ON, "a"), python("c", EXPORT, "b")).state
        == "succeeded"
    )
    store.shutdown()
    assert committed == ["a", "b", "c"]


MUTATIONS = {
    "a column": ("pd.DataFrame({'a': [1.0, 2.0]})", "data['a'] = 9.0"),
    "a cell": ("pd.DataFrame({'a': [1.0, 2.0]})", "data.loc[0, 'a'] = 9.0"),
    "a sort": ("pd.DataFrame({'a': [1.0, 2.0]})", "data.sort_values('a', ascending=False, inplace=True)"),
    "labels": ("pd.DataFrame({'a': [1.0, 2.0]})", "data.columns = ['z']"),
    "a list in a cell": ("pd.DataFrame({'a': [[1], [2]]})", "data['a'][0].append(9)"),
    "a list among numbers": ("pd.DataFrame({'a': [1, [2]]})", "data['a'][1].append(9)"),
    "a series": ("pd.Series([1.0, 2.0])", "data.iloc[0] = 9.0"),
    "a dictionary": ("{'a': {'b': [1]}}", "data['a']['b'].append(9)"),
    "a list of outputs": ("[{'a': 1}, {'a': 2}]", "data[0]['a'] = 9; data.append(3)"),
    "an array": ("np.array([1.0, 2.0])", "data[0] = 9.0"),
    "a frame in a dictionary": ("{'f': pd.DataFrame({'a': [1.0]})}", "data['f'].loc[0, 'a'] = 9.0"),
}


@pytest.mark.filterwarnings("default")  # pandas would rather have no `inplace`
@pytest.mark.parametrize("kind", MUTATIONS)
def test_what_one_branch_changes_is_seen_by_no_other_and_not_stored(bench: Bench, kind: str) -> None:
    value, change = MUTATIONS[kind]
    make = f"import numpy as np, pandas as pd\n@data_loader\ndef f():\n    return {value}\n"
    mutate = f"import pandas as pd\n@transformer\ndef f(data):\n    {change}\n    return None\n"
    show = "@transformer\ndef f(data, changed):\n    return repr(data)\n"
    keep = "KEPT = []\n" + make.replace("return ", "KEPT.append(").rstrip() + ")\n    return KEPT[0]\n"

    result = bench.run(
        python("a", keep),
        python("plain", make),
        python("change", mutate, "a"),
        python("b", show, "a", "change"),
        python("expected", show, "plain", "change"),
    )

    assert result.state == "succeeded"
    assert bench.outputs("b") == bench.outputs("expected")
    assert repr(bench.outputs("a")) == repr(bench.outputs("plain"))


def test_what_a_block_does_to_its_variables_is_seen_by_no_other(bench: Bench) -> None:
    change = (
        "@data_loader\ndef f(**kwargs):\n    kwargs['options']['x'].append(1)\n    return kwargs['options']\n"
    )

    bench.run(python("a", change), python("b", change), variables={"options": {"x": []}})

    assert bench.outputs("a") == bench.outputs("b") == ({"x": [1]},)


def test_a_failure_spreads_downstream_and_leaves_other_branches_alone(bench: Bench) -> None:
    result = bench.run(
        python("a", FRAME),
        python("bad", FAIL, "a"),
        python("after", PASS_ON, "bad"),
        python("end", EXPORT, "after"),
        python("good", EXPORT, "a"),
    )

    assert (result.state, result.error) == (
        "failed",
        "block 'bad' failed: transformers/bad.py:3: ValueError: no",
    )
    assert bench.listener.states() == {
        "a": "succeeded",
        "bad": "failed",
        "after": "upstream_failed",
        "end": "upstream_failed",
        "good": "succeeded",
    }


def test_a_retry_without_delay_happens_at_once(bench: Bench) -> None:
    result = bench.run(python("a", flaky(bench, 2), retry=RetryPolicy(retries=2, delay_seconds=0)))

    assert result.state == "succeeded"
    assert [(report.state, report.attempt) for report in bench.listener.reports] == [
        ("waiting", 1),
        ("waiting", 2),
        ("succeeded", 3),
    ]


def test_a_run_waits_outside_for_a_later_retry_and_others_go_on(bench: Bench) -> None:
    policy = RetryPolicy(retries=1, delay_seconds=60, jitter=False)

    result = bench.run(
        python("a", flaky(bench, 1), retry=policy), python("b", FRAME), python("c", EXPORT, "b")
    )

    assert result.state == "waiting"
    assert result.retry_at == bench.listener.report("a").retry_at
    assert result.retry_at is not None
    assert timedelta(seconds=50) < result.retry_at - now() <= timedelta(seconds=60)
    assert bench.listener.states() == {"a": "waiting", "b": "succeeded", "c": "succeeded"}


def test_a_waiting_run_is_taken_up_when_its_retry_is_due(bench: Bench) -> None:
    blocks = (
        python("a", flaky(bench, 1), retry=RetryPolicy(retries=1, delay_seconds=60, jitter=False)),
        python("b", PASS_ON, "a"),
    )
    bench.run(*blocks)
    progress = bench.listener.progress()
    bench.listener = Listener()

    early = bench.run(*blocks, progress=progress)
    bench.clock = lambda: now() + timedelta(seconds=61)
    due = bench.run(*blocks, progress=progress)

    assert (early.state, due.state) == ("waiting", "succeeded")
    assert bench.listener.report("a").attempt == 2


def test_a_retry_that_comes_due_while_another_block_is_busy_is_not_held_up(bench: Bench) -> None:
    busy = """
from tests.pipelines import test_run

@data_loader
def f():
    assert test_run.RETRIED.wait(10)
"""
    then = flaky(bench, 1).replace(
        'return "done"', "from tests.pipelines import test_run; test_run.RETRIED.set()"
    )

    result = bench.run(
        python("busy", busy), python("a", then, retry=RetryPolicy(retries=1, delay_seconds=0.05))
    )

    assert result.state == "succeeded"


RETRIED = threading.Event()


def test_retries_end_in_failure(bench: Bench) -> None:
    result = bench.run(python("a", flaky(bench, 5), retry=RetryPolicy(retries=1, delay_seconds=0)))

    assert result.state == "failed"
    assert bench.listener.report("a").attempt == 2


def test_a_retried_block_gets_its_inputs_again(bench: Bench) -> None:
    source = flaky(bench, 1, "transformer").replace('return "done"', "return args[0]")

    result = bench.run(
        python("a", FRAME), python("b", source, "a", retry=RetryPolicy(retries=1, delay_seconds=0))
    )

    assert result.state == "succeeded"
    pd.testing.assert_frame_equal(bench.outputs("b")[0], bench.outputs("a")[0])


def test_a_run_goes_on_from_its_finished_blocks(bench: Bench) -> None:
    blocks = (python("a", FRAME), python("b", flaky(bench, 1, "transformer"), "a"), python("c", EXPORT, "b"))
    bench.run(*blocks)
    progress = {"a": bench.listener.progress()["a"]}
    bench.listener = Listener()

    result = bench.run(*blocks, progress=progress)

    assert result.state == "succeeded"
    assert [name for kind, name in bench.listener.calls if kind == "started"] == ["b", "c"]


def test_an_interrupted_block_runs_again(bench: Bench) -> None:
    result = bench.run(python("a", FRAME), progress={"a": BlockProgress("running", attempt=0)})

    assert result.state == "succeeded"
    assert bench.listener.report("a").attempt == 1


def test_a_finished_run_runs_nothing(bench: Bench) -> None:
    blocks = (python("a", FRAME), python("b", EXPORT, "a"))
    bench.run(*blocks)
    progress = bench.listener.progress()
    bench.listener = Listener()

    assert bench.run(*blocks, progress=progress).state == "succeeded"
    assert bench.listener.calls == []


def test_a_failed_block_of_before_stays_failed(bench: Bench) -> None:
    result = bench.run(
        python("a", FRAME), python("b", EXPORT, "a"), progress={"a": BlockProgress("failed", attempt=1)}
    )

    assert result.state == "failed"
    assert bench.listener.states() == {"b": "upstream_failed"}


OPAQUE = "class Box:\n    held = (0, 1, 2)\n\n\n@data_loader\ndef f():\n    return Box()\n"
COLLECT = "@transformer\ndef f(data):\n    return data.held\n"


def test_an_output_that_cannot_be_stored_is_volatile_and_the_run_goes_on(bench: Bench) -> None:
    result = bench.run(python("a", OPAQUE), python("b", COLLECT, "a"))

    assert result.state == "succeeded"
    assert bench.listener.report("a").volatile
    assert "could not be stored" in bench.listener.text_of("a")
    assert bench.outputs("b") == (0, 1, 2)


def test_an_output_that_no_writer_expects_stops_no_run(bench: Bench) -> None:
    circle = "@data_loader\ndef f():\n    items = []\n    items.append(items)\n    return items, 1\n"

    result = bench.run(python("a", circle), python("b", "@transformer\ndef f(data):\n    return 2\n", "a"))

    assert result.state == "succeeded"
    assert bench.listener.report("a").volatile
    assert "could not be stored" in bench.listener.text_of("a")


def test_a_block_that_wants_no_checkpoint_is_volatile(bench: Bench) -> None:
    bench.run(python("a", FRAME, checkpoint=False))

    assert bench.listener.report("a").volatile
    assert bench.listener.report("a").checkpoint is None


def test_a_resume_runs_a_volatile_block_again_when_its_output_is_wanted(bench: Bench) -> None:
    blocks = (python("a", OPAQUE), python("b", COLLECT, "a"), python("c", PASS_ON, "b"))
    bench.run(*blocks)
    progress = bench.listener.progress()

    bench.listener = Listener()
    bench.run(*blocks, progress={"a": progress["a"]})
    wanted = [name for kind, name in bench.listener.calls if kind == "started"]
    bench.listener = Listener()
    bench.run(*blocks, progress={"a": progress["a"], "b": progress["b"]})
    unwanted = [name for kind, name in bench.listener.calls if kind == "started"]

    assert wanted == ["a", "b", "c"]
    assert unwanted == ["c"]


def test_a_lost_checkpoint_makes_its_block_run_again(bench: Bench) -> None:
    blocks = (python("a", LARGE_FRAME), python("b", PASS_ON, "a"))
    bench.run(*blocks)
    progress = {"a": bench.listener.progress()["a"]}
    bench.checkpoints.discard("run-1")
    bench.listener = Listener()

    result = bench.run(*blocks, progress=progress)

    assert result.state == "succeeded"
    assert [name for kind, name in bench.listener.calls if kind == "started"] == ["a", "b"]


def test_a_full_disk_does_not_stop_the_run(bench: Bench) -> None:
    (bench.root / "checkpoints").write_text("a file where the folder should be")

    result = bench.run(python("a", LARGE_FRAME), python("b", PASS_ON, "a"))

    assert result.state == "succeeded"
    assert bench.listener.report("a").volatile


def test_only_selected_blocks_run(bench: Bench) -> None:
    result = bench.run(python("a", FRAME), python("b", PASS_ON, "a"), selection=("a",))

    assert result.state == "succeeded"
    assert bench.listener.states() == {"a": "succeeded"}


def test_a_selected_block_without_its_input_says_what_to_select(bench: Bench) -> None:
    result = bench.run(python("a", FRAME), python("b", PASS_ON, "a"), selection=("b",))

    assert result.state == "failed"
    assert "needs the output of 'a', which was not selected" in (result.error or "")


def test_drain_lets_running_blocks_end_and_starts_nothing_new(bench: Bench) -> None:
    class Draining(Listener):
        def block_started(self, block: str, attempt: int, at: datetime) -> None:
            super().block_started(block, attempt, at)
            bench.drain.set()

    bench.listener = Draining()

    result = bench.run(python("a", FRAME), python("b", PASS_ON, "a"))

    assert result.state == "stopped"
    assert bench.listener.states() == {"a": "succeeded"}


def test_a_report_that_is_not_committed_stops_the_run(bench: Bench) -> None:
    def refuse(report: BlockReport, future: Future[None]) -> None:
        future.set_exception(RuntimeError("the claim is lost"))

    bench.listener = Listener(refuse)

    result = bench.run(python("a", FRAME), python("c", EXPORT, "a"))

    assert (result.state, result.error) == ("stopped", "a report could not be committed: the claim is lost")
    assert bench.listener.states() == {"a": "succeeded"}


def test_a_listener_that_is_gone_stops_the_run_in_every_branch(bench: Bench) -> None:
    class Gone(Listener):
        def block_started(self, block: str, attempt: int, at: datetime) -> None:
            raise BrokenPipeError("the engine is gone")

    bench.listener = Gone()

    assert bench.run(python("a", FRAME), python("b", FRAME)).state == "stopped"


def test_a_finished_output_leaves_the_memory_when_nobody_needs_it(bench: Bench) -> None:
    make = """
import weakref
from tests.pipelines import test_run

class Large:
    pass

@data_loader
def f():
    large = Large()
    test_run.LARGE.append(weakref.ref(large))
    return large
"""
    watch = """
import gc, time
from tests.pipelines import test_run

@transformer
def f(data):
    deadline = time.monotonic() + 10
    del data
    while test_run.LARGE[-1]() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return test_run.LARGE[-1]() is None
"""

    bench.run(
        python("a", make),
        python("b", PASS_ON.replace("return data", "return 1"), "a"),
        python("c", watch, "b"),
    )

    assert bench.outputs("c") == (True,)


LARGE: list[object] = []


def test_forty_blocks_take_a_fraction_of_a_second(bench: Bench) -> None:
    chain = [python("b0", FRAME), *(python(f"b{n}", PASS_ON, f"b{n - 1}") for n in range(1, 40))]
    bench.run(*chain)
    bench.listener = Listener()

    began = time.perf_counter()
    result = bench.run(*chain)

    assert result.state == "succeeded"
    assert time.perf_counter() - began < 1.0  # 0.1 s on a quiet machine; make bench measures it


def test_wide_graphs_finish(bench: Bench) -> None:
    wide = [python("a", FRAME), *(python(f"w{n}", PASS_ON, "a") for n in range(40))]

    result = bench.run(*wide, python("end", EXPORT, *(f"w{n}" for n in range(40))))

    assert result.state == "succeeded"
    order = [report.block for report in bench.listener.reports]
    assert order[0] == "a"
    assert order[-1] == "end"

"""Dynamic, conditional and sensor blocks through a real engine, whose worker processes die in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import runs
from service.store.values import BlockState, RunState
from tests.parts.projects import BlockFile
from tests.parts.waiting import wait_until
from tests.service.test_worker import NOTE, Bench

ITEMS = BlockFile(
    "items",
    "@data_loader\ndef f(**kwargs):\n    return [list(range(kwargs.get('count', 12)))]\n",
    type="data_loader",
    keys={"configuration": {"dynamic": True}},
)
COLLECT = BlockFile(
    "end",
    "@data_exporter\ndef f(all):\n    print('all', sorted(all))\n",
    type="data_exporter",
    upstream=["work"],
)
DEADLY_ITEMS = (4, 9)
# The process dies once under each of two items, when it is told that all before are recorded.
DEADLY = (
    NOTE
    + f"""
import signal

@transformer
def f(item, **kwargs):
    died = Path(kwargs["folder"]) / f"died{{item}}"
    if item in {DEADLY_ITEMS} and not died.exists():
        died.touch()
        wait_for(kwargs, f"die{{item}}")
        os.kill(os.getpid(), signal.SIGKILL)
    note(kwargs)
    return item
"""
)
WATCH = """
from pathlib import Path

@sensor
def f(**kwargs):
    return Path(kwargs['folder'], 'go').exists()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def succeeded(bench: Bench, run_id: str) -> int:
    """Return how many children are recorded as succeeded."""
    return sum(one.parent == "work" and one.state is BlockState.SUCCEEDED for one in bench.get(run_id).blocks)


def test_children_that_are_through_are_not_run_again_when_the_process_dies(bench: Bench) -> None:
    bench.pipeline(
        "fan",
        ITEMS,
        BlockFile("gate", WATCH, type="sensor", keys={"configuration": {"poll_interval": 0.2}}),
        BlockFile(
            "work",
            DEADLY,
            type="transformer",
            upstream=["items"],
            keys={"configuration": {"reduce_output": True}},
        ),
        COLLECT,
        BlockFile("late", "@custom\ndef f(*args):\n    return 1\n", upstream=["gate"]),
        concurrency_config={"block_run_limit": 1},
    )
    bench.start()
    run_id = bench.launch("fan")
    for item in DEADLY_ITEMS:
        wait_until(lambda item=item: succeeded(bench, run_id) >= item, what=f"{item} children")  # type: ignore[misc]
        (bench.folder / f"die{item}").touch()
    waiting = wait_until(
        lambda: run if (run := bench.get(run_id)).state is RunState.WAITING else None, what="the sensor alone"
    )
    bench.go()
    run = bench.finished(run_id)

    assert run.state is RunState.SUCCEEDED, run.error
    assert "gate" in (waiting.waits_for or "")
    assert Counter(bench.journal()) == {f"work:{number}": 1 for number in range(12)}
    by_name = {block.name: block for block in run.blocks}
    assert [by_name[f"work:{number}"].item for number in range(12)] == list(range(12))
    assert by_name["work:4"].deaths == by_name["work:9"].deaths == 1
    assert by_name["gate"].attempt == 1
    assert by_name["gate"].reason is None
    assert by_name["work"].children == {"succeeded": 12}
    assert {block.state for block in run.blocks} == {BlockState.SUCCEEDED}
    assert [block.name for block in run.blocks if block.parent is None] == [
        "items", "gate", "work", "end", "late",
    ]  # fmt: skip


def test_failed_children_are_shown_and_tried_again_by_a_retry_of_the_run(bench: Bench) -> None:
    frail = (
        NOTE
        + "\n@transformer\ndef f(item, **kwargs):\n    note(kwargs)\n"
        + "    assert item != 3 or Path(kwargs['folder'], 'go').exists(), 'three is wrong'\n    return item\n"
    )
    bench.pipeline(
        "fan",
        ITEMS,
        BlockFile(
            "work",
            frail,
            type="transformer",
            upstream=["items"],
            keys={"configuration": {"reduce_output": True}},
        ),
        COLLECT,
    )
    bench.start()
    run_id = bench.launch("fan")
    failed = bench.finished(run_id)
    assert bench.runtime is not None
    with bench.runtime.database.read() as connection:
        seen = runs.glance(connection, run_id)
        listed = runs.listing(connection)
    bench.go()
    bench.retry(run_id)
    done = wait_until(
        lambda: run if (run := bench.get(run_id)).state is RunState.SUCCEEDED else None,
        seconds=30,
        what="its end",
    )

    assert failed.state is RunState.FAILED
    assert "1 of 12 children failed; first 'work:3'" in (failed.error or "")
    assert seen is not None
    assert [block.name for block in seen.blocks] == ["items", "work", "end", "work:3"]
    assert seen.failed_blocks == 1
    assert [block.name for block in listed[0].blocks] == ["items", "work", "end"]
    assert listed[0].blocks[1].children == {"succeeded": 11, "failed": 1}
    assert done.attempt == 2
    assert Counter(bench.journal())["work:3"] == 2
    assert len(bench.journal()) == 13
    assert done.failed_blocks == 0


def test_a_sensor_over_its_timeout_fails_though_the_process_changes(bench: Bench) -> None:
    bench.pipeline(
        "watch",
        BlockFile(
            "gate", WATCH, type="sensor", keys={"configuration": {"poll_interval": 0.3}, "timeout": 0.8}
        ),
        allow_blocks_to_fail=True,
    )
    bench.start()
    run = bench.finished(bench.launch("watch"))

    assert run.state is RunState.SUCCEEDED
    assert run.failed_blocks == 1
    assert "waited longer than its timeout of 0.8 s" in (run.blocks[0].error or "")
    assert run.claim > 1


def test_children_that_are_all_over_their_time_are_ended_together(bench: Bench) -> None:
    hangs = NOTE + "\n@transformer\ndef f(item, **kwargs):\n    wait_for(kwargs, 'never')\n"
    bench.pipeline(
        "fan", ITEMS, BlockFile("work", hangs, type="transformer", upstream=["items"], keys={"timeout": 1})
    )
    bench.start()

    run = bench.finished(bench.launch("fan"))

    children = [block for block in run.blocks if block.parent == "work"]
    assert len(children) == 12
    for child in children:
        assert (child.state, child.attempt) == (BlockState.FAILED, 1)
        assert f"Block '{child.name}' ran longer than its timeout of 1 s" in (child.error or "")
    assert run.claim == 2  # one process was ended, and the next found nothing left to do

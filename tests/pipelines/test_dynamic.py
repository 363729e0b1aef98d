"""Dynamic blocks: a child for each item, children of children, reducing, and resuming in the middle."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from pipelines import run
from pipelines.model import RetryPolicy
from pipelines.run import BlockReport
from tests.pipelines.running import Bench, Listener, python

ITEMS = """
@data_loader
def f():
    return [['x', 'y', 'z'], [{'block_uuid': name} for name in ('one', 'two', 'three')]]
"""
PLAIN_ITEMS = "@data_loader\ndef f():\n    return [[1, 2, 3]]\n"
UPPER = "@transformer\ndef f(item):\n    return {'v': item.upper()}\n"
PASS_ON = "@transformer\ndef f(*data):\n    return {'got': list(data)}\n"
COLLECT = "@data_exporter\ndef f(all):\n    return {'all': all}\n"
DYNAMIC = {"configuration": {"dynamic": True}}
REDUCE = {"configuration": {"reduce_output": True}}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def started(bench: Bench) -> list[str]:
    return [name for kind, name in bench.listener.calls if kind == "started"]


def test_each_item_gets_a_child_named_by_its_metadata_and_reduce_gathers_them(bench: Bench) -> None:
    result = bench.run(
        python("d", ITEMS, **DYNAMIC), python("c", UPPER, "d", **REDUCE), python("end", COLLECT, "c")
    )

    assert result.state == "succeeded", result.error
    assert bench.listener.states() == {
        name: "succeeded" for name in ("d", "c:one", "c:two", "c:three", "c", "end")
    }
    assert bench.outputs("end") == ({"all": [{"v": "X"}, {"v": "Y"}, {"v": "Z"}]},)
    assert "c" not in started(bench)


def test_items_without_metadata_are_numbered(bench: Bench) -> None:
    bench.run(python("d", PLAIN_ITEMS, **DYNAMIC), python("c", PASS_ON, "d"))

    assert bench.outputs("c:2") == ({"got": [3]},)


def test_rows_of_a_frame_are_items(bench: Bench) -> None:
    frame = """
import pandas as pd

@data_loader
def f():
    return pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})
"""

    bench.run(python("d", frame, **DYNAMIC), python("c", PASS_ON, "d"))

    assert bench.outputs("c:1") == ({"got": [{"a": 2, "b": "y"}]},)


def test_mapping_says_whether_a_block_is_dynamic_and_whether_its_children_are_reduced(bench: Bench) -> None:
    parent = {"configuration": {"dynamic": {"parent": True}}}
    child = {"configuration": {"dynamic": {"parent": False, "reduce_output": True}}}

    bench.run(python("d", ITEMS, **parent), python("c", UPPER, "d", **child), python("end", COLLECT, "c"))

    assert bench.outputs("end") == ({"all": [{"v": "X"}, {"v": "Y"}, {"v": "Z"}]},)


def test_metadata_becomes_keywords_but_never_overwrites_the_runs_own(bench: Bench) -> None:
    make = (
        "@data_loader\ndef f():\n"
        "    return [[1], [{'block_uuid': 'n', 'city': 'Rome', 'run_id': 'mine', 'pipeline_uuid': 'mine'}]]\n"
    )
    show = """
@transformer
def f(item, **kwargs):
    names = ('city', 'run_id', 'pipeline_uuid', 'block_uuid', 'dynamic_block_index')
    return {name: kwargs[name] for name in names}
"""

    bench.run(python("d", make, **DYNAMIC), python("c", show, "d"))

    assert bench.outputs("c:n") == (
        {
            "city": "Rome",
            "run_id": "run-1",
            "pipeline_uuid": "shop",
            "block_uuid": "c:n",
            "dynamic_block_index": 0,
        },
    )


def test_a_child_of_a_child_keeps_the_suffix_and_starts_at_once(bench: Bench) -> None:
    slow = """
from tests.pipelines import test_dynamic

@transformer
def f(item):
    if item == 'x':
        assert test_dynamic.SECOND_LEVEL.wait(10), 'the second level waited for all of the first'
    return item
"""
    then = """
from tests.pipelines import test_dynamic

@transformer
def f(item):
    test_dynamic.SECOND_LEVEL.set()
    return {'then': item}
"""
    result = bench.run(python("d", ITEMS, **DYNAMIC), python("a", slow, "d"), python("b", then, "a"))

    assert result.state == "succeeded", result.error
    assert bench.outputs("b:one") == ({"then": "x"},)


SECOND_LEVEL = threading.Event()


def test_two_dynamic_parents_are_combined_each_with_each(bench: Bench) -> None:
    bench.run(
        python("d", ITEMS, **DYNAMIC), python("e", PLAIN_ITEMS, **DYNAMIC), python("c", PASS_ON, "d", "e")
    )

    children = [name for name in bench.listener.states() if name.startswith("c:")]
    assert len(children) == 9
    assert bench.outputs("c:two:0") == ({"got": ["y", 1]},)


def test_zip_combines_in_pairs(bench: Bench) -> None:
    zipped = {"configuration": {"dynamic_combine": "zip"}}

    bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("e", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d", "e", **zipped),
        python("then", PASS_ON, "c"),
    )

    assert bench.outputs("c:1") == ({"got": [2, 2]},)
    assert bench.outputs("then:1") == ({"got": [{"got": [2, 2]}]},)


def test_pairs_that_do_not_come_out_even_are_an_error(bench: Bench) -> None:
    two = "@data_loader\ndef f():\n    return [[1, 2]]\n"
    zipped = {"configuration": {"dynamic_combine": "zip"}}

    result = bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("e", two, **DYNAMIC),
        python("c", PASS_ON, "d", "e", **zipped),
    )

    assert result.state == "failed"
    assert "3 and 2 items" in (result.error or "")


def test_branches_of_one_dynamic_block_meet_by_their_item(bench: Bench) -> None:
    bench.run(
        python("d", ITEMS, **DYNAMIC),
        python("a", UPPER, "d"),
        python("b", PASS_ON, "d"),
        python("c", PASS_ON, "a", "b", "d"),
    )

    assert sorted(name for name in bench.listener.states() if name.startswith("c:")) == [
        "c:one",
        "c:three",
        "c:two",
    ]
    assert bench.outputs("c:one") == ({"got": [{"v": "X"}, {"got": ["x"]}, "x"]},)


def test_a_child_may_be_dynamic_itself(bench: Bench) -> None:
    twice = "@transformer\ndef f(item):\n    return [[item * 10, item * 10 + 1]]\n"

    bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("e", twice, "d", **DYNAMIC),
        python("c", PASS_ON, "e", **REDUCE),
        python("end", COLLECT, "c"),
    )

    assert bench.outputs("c:1:1") == ({"got": [21]},)
    assert [one["got"][0] for one in bench.outputs("end")[0]["all"]] == [10, 11, 20, 21, 30, 31]


@pytest.mark.parametrize("reduce", [True, False])
def test_no_items_give_no_children_and_an_empty_list(bench: Bench, reduce: bool) -> None:
    nothing = "@data_loader\ndef f():\n    return [[]]\n"

    result = bench.run(
        python("d", nothing, **DYNAMIC),
        python("c", PASS_ON, "d", configuration={"reduce_output": reduce}),
        python("end", COLLECT, "c"),
    )

    assert result.state == "succeeded", result.error
    assert bench.listener.states() == {"d": "succeeded", "c": "succeeded", "end": "succeeded"}
    if reduce:
        assert bench.outputs("end") == ({"all": []},)


WRONG = {
    "None": "returned nothing",
    "['a', 'b', 'c']": "returned 3 values",
    "5": "returned a int",
    "[[1, 2], [{}]]": "2 items and metadata for 1",
    "[[1], ['x']]": "no list of dictionaries",
}


@pytest.mark.parametrize("value", WRONG)
def test_a_dynamic_block_that_returns_something_else_says_what_is_wanted(bench: Bench, value: str) -> None:
    result = bench.run(
        python("d", f"@data_loader\ndef f():\n    return {value}\n", **DYNAMIC), python("c", PASS_ON, "d")
    )

    assert bench.listener.states() == {"d": "failed", "c": "upstream_failed"}
    assert WRONG[value] in (result.error or "")


def test_labels_are_made_fit_and_unique(bench: Bench) -> None:
    make = """
@data_loader
def f():
    return [[1, 2, 3], [{'block_uuid': name} for name in ('a:b/c', 'a_b_c', 'ö' * 300)]]
"""

    result = bench.run(python("d", make, **DYNAMIC), python("c", LARGE, "d"))

    assert result.state == "succeeded", result.error
    assert {"c:a_b_c", "c:a_b_c_1", "c:" + "ö" * 60} < set(bench.listener.states())
    assert not any(report.volatile for report in bench.listener.reports)


LARGE = "import pandas as pd\n@transformer\ndef f(item):\n    return pd.DataFrame({'a': range(5000)})\n"
FAIL_TWO = "@transformer\ndef f(item):\n    assert item != 2, 'two is wrong'\n    return item\n"


def test_a_failed_child_fails_its_controller_and_only_its_own_descendants(bench: Bench) -> None:
    result = bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", FAIL_TWO, "d"),
        python("then", PASS_ON, "c", **REDUCE),
        python("end", COLLECT, "then"),
    )

    states = bench.listener.states()
    assert result.state == "failed"
    assert (states["c:0"], states["c:1"], states["c"]) == ("succeeded", "failed", "failed")
    assert (states["then:0"], states["then:1"], states["then"]) == (
        "succeeded",
        "upstream_failed",
        "upstream_failed",
    )
    assert states["end"] == "upstream_failed"
    error = bench.listener.report("c").error or ""
    assert error.startswith("1 of 3 children failed; first 'c:1'")
    assert "two is wrong" in error


def test_a_controller_counts_the_rows_of_its_children(bench: Bench) -> None:
    bench.run(python("d", PLAIN_ITEMS, **DYNAMIC), python("c", LARGE, "d"))

    assert bench.listener.report("c").rows == 15_000


def test_too_many_children_are_refused(bench: Bench) -> None:
    result = bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("e", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d", "e"),
        child_limit=8,
    )

    assert "would have 9 children, and 8 are allowed" in (result.error or "")
    assert bench.listener.states()["c"] == "failed"


def test_a_child_is_tried_again_by_itself(bench: Bench) -> None:
    flaky = f"""
from pathlib import Path

@transformer
def f(item):
    tried = Path({str(bench.root)!r}) / f"tried{{item}}"
    if item == 2 and not tried.exists():
        tried.touch()
        raise OSError('once')
    return item
"""
    result = bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", flaky, "d", retry=RetryPolicy(retries=1, delay_seconds=0), **REDUCE),
        python("end", COLLECT, "c"),
    )

    assert result.state == "succeeded", result.error
    assert bench.listener.report("c:1").attempt == 2
    assert bench.outputs("end") == ({"all": [1, 2, 3]},)


def test_a_resumed_run_runs_no_finished_child_again(bench: Bench) -> None:
    blocks = (
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d"),
        python("then", PASS_ON, "c", **REDUCE),
        python("end", COLLECT, "then"),
    )
    bench.run(*blocks)
    whole = bench.listener.progress()
    expected = bench.outputs("end")
    bench.listener = Listener()

    kept = {"d": whole["d"], "c:0": whole["c:0"], "c:2": whole["c:2"], "then:2": whole["then:2"]}
    result = bench.run(*blocks, progress=kept)

    assert result.state == "succeeded", result.error
    assert sorted(started(bench)) == ["c:1", "end", "then:0", "then:1"]
    assert bench.outputs("end") == expected


def test_a_resumed_run_asks_a_volatile_dynamic_block_again(bench: Bench) -> None:
    blocks = (
        python("d", PLAIN_ITEMS, checkpoint=False, **DYNAMIC),
        python("c", PASS_ON, "d", **REDUCE),
        python("end", COLLECT, "c"),
    )
    bench.run(*blocks)
    whole = bench.listener.progress()
    bench.listener = Listener()

    result = bench.run(*blocks, progress={name: whole[name] for name in ("d", "c:0", "c:1", "c:2", "c")})

    assert result.state == "succeeded", result.error
    assert started(bench) == ["d", "end"]


def test_children_whose_output_was_not_stored_run_again_when_it_is_wanted(bench: Bench) -> None:
    blocks = (
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d", checkpoint=False, **REDUCE),
        python("end", COLLECT, "c"),
    )
    bench.run(*blocks)
    whole = bench.listener.progress()
    bench.listener = Listener()

    result = bench.run(*blocks, progress={name: whole[name] for name in ("d", "c:0", "c:1", "c:2", "c")})

    assert result.state == "succeeded", result.error
    assert sorted(started(bench)) == ["c:0", "c:1", "c:2", "end"]


def test_a_finished_dynamic_run_runs_nothing(bench: Bench) -> None:
    blocks = (
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d", **REDUCE),
        python("end", COLLECT, "c"),
    )
    bench.run(*blocks)
    progress = bench.listener.progress()
    bench.listener = Listener()

    assert bench.run(*blocks, progress=progress).state == "succeeded"
    assert bench.listener.calls == []


def test_a_failed_child_of_before_stays_failed_and_others_go_on(bench: Bench) -> None:
    blocks = (python("d", PLAIN_ITEMS, **DYNAMIC), python("c", FAIL_TWO, "d"), python("then", PASS_ON, "c"))
    bench.run(*blocks)
    whole = bench.listener.progress()
    bench.listener = Listener()

    result = bench.run(*blocks, progress={name: whole[name] for name in ("d", "c:0", "c:1", "c:2", "c")})

    assert result.state == "failed"
    assert sorted(started(bench)) == ["then:0", "then:2"]
    assert "two is wrong" in (bench.listener.report("c").error or "")


def test_children_read_a_whole_list_that_is_not_stored_yet(bench: Bench) -> None:
    """What children returned stays in memory until all children that want it have read it."""
    not_committed: list[Future[None]] = []

    def commit(report: BlockReport, future: Future[None]) -> None:
        if report.block.startswith("c:"):
            not_committed.append(future)
            return
        future.set_result(None)
        if report.block == "end":
            for earlier in not_committed:
                earlier.set_result(None)

    bench.listener.commit = commit

    result = bench.run(
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("c", PASS_ON, "d", **REDUCE),
        python("end", PASS_ON, "c", "d"),
    )

    assert result.state == "succeeded", result.error
    assert bench.outputs("end:2") == ({"got": [[{"got": [1]}, {"got": [2]}, {"got": [3]}], 3]},)


def test_a_dynamic_block_that_gave_nothing_has_no_children_and_is_none_beside_others(bench: Bench) -> None:
    fails = "@data_loader\ndef f():\n    raise ValueError('no')\n"

    bench.run(
        python("bad", fails, **DYNAMIC),
        python("d", PLAIN_ITEMS, **DYNAMIC),
        python("alone", PASS_ON, "bad", trigger_rule="all_done", **REDUCE),
        python("after", PASS_ON, "alone", trigger_rule="all_done"),
        python("beside", PASS_ON, "bad", "d", trigger_rule="one_success"),
    )

    assert bench.listener.states()["alone"] == "succeeded"
    assert bench.outputs("after") == ({"got": [[]]},)
    assert bench.outputs("beside:2") == ({"got": [None, 3]},)


def test_whatever_goes_wrong_while_children_are_found_ends_the_block(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise AssertionError("not thought of")

    monkeypatch.setattr(run, "members", breaks)

    result = bench.run(python("d", PLAIN_ITEMS, **DYNAMIC), python("c", PASS_ON, "d"))

    assert (result.state, result.error) == ("failed", "block 'c' failed: AssertionError: not thought of")


def test_exporters_as_children_wait_until_the_items_are_finished(bench: Bench) -> None:
    result = bench.run(python("d", PLAIN_ITEMS, **DYNAMIC), python("c", COLLECT, "d"))

    assert result.state == "succeeded"
    assert bench.listener.states()["c:0"] == "succeeded"


def test_no_more_children_run_at_once_than_the_pipeline_allows(bench: Bench) -> None:
    count = """
import threading
from tests.pipelines import test_dynamic

@transformer
def f(item):
    with test_dynamic.LOCK:
        test_dynamic.AT_ONCE.append(test_dynamic.AT_ONCE[-1] + 1)
    threading.Event().wait(0.002)
    with test_dynamic.LOCK:
        test_dynamic.AT_ONCE.append(test_dynamic.AT_ONCE[-1] - 1)
"""
    AT_ONCE[:] = [0]
    items = "@data_loader\ndef f():\n    return [list(range(20))]\n"

    bench.run(python("d", items, **DYNAMIC), python("c", count, "d"), block_limit=2)

    assert max(AT_ONCE) == 2


AT_ONCE: list[int] = [0]
LOCK = threading.Lock()


def test_a_thousand_children_take_seconds(bench: Bench) -> None:
    items = "@data_loader\ndef f():\n    return [list(range(1000))]\n"

    began = time.perf_counter()
    result = bench.run(
        python("d", items, **DYNAMIC), python("c", PASS_ON, "d", **REDUCE), python("end", COLLECT, "c")
    )

    assert result.state == "succeeded"
    assert len(bench.outputs("end")[0]["all"]) == 1000
    assert time.perf_counter() - began < 5.0

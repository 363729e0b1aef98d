"""Conditionals, callbacks, sensor blocks and trigger rules, in a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.model import Block, BlockType, RetryPolicy
from pipelines.run import BlockProgress, RunSpec
from pipelines.runspec import RunOptions
from tests.pipelines.running import Bench, Listener, now, python

LOAD = "@data_loader\ndef f():\n    return 5\n"
NEXT = "@transformer\ndef f(*data):\n    return list(data)\n"
FAIL = "@transformer\ndef f(*data):\n    raise ValueError('no')\n"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def add_on(kind: BlockType, source: str, *guarded: str, name: str = "beside") -> tuple[Block, str]:
    return Block(name, kind, "python", f"{kind.folder}/{name}.py", guarded), source


def with_add_ons(bench: Bench, *blocks: tuple[Block, str], **more: object) -> RunSpec:
    """Return a run whose conditionals and callbacks are among `blocks`."""
    beside = (BlockType.CONDITIONAL, BlockType.CALLBACK)
    spec = bench.spec(
        *(one for one in blocks if one[0].type not in beside),
        conditionals=tuple(block for block, _ in blocks if block.type is BlockType.CONDITIONAL),
        callbacks=tuple(block for block, _ in blocks if block.type is BlockType.CALLBACK),
        **more,  # type: ignore[arg-type]
    )
    sources = {**spec.sources, **{block.path: source for block, source in blocks}}
    return RunSpec(
        spec.facts, spec.root, spec.pipeline, sources, spec.variables, spec.progress, options=spec.options
    )


def condition(source: str, *guarded: str, name: str = "beside") -> tuple[Block, str]:
    return add_on(BlockType.CONDITIONAL, source, *guarded, name=name)


def callback(source: str, *guarded: str, name: str = "beside") -> tuple[Block, str]:
    return add_on(BlockType.CALLBACK, source, *guarded, name=name)


def test_a_false_condition_skips_the_block_and_all_that_follows(bench: Bench) -> None:
    result = bench.execute(
        with_add_ons(
            bench,
            python("a", LOAD),
            python("b", NEXT, "a"),
            python("c", NEXT, "b"),
            python("d", NEXT, "c", "a"),
            python("e", NEXT, "a"),
            condition("@condition\ndef small(value, **kwargs):\n    return value < 5\n", "b"),
        )
    )

    assert result.state == "succeeded"
    states = {name: str(state) for name, state in bench.listener.states().items()}
    assert states == {"a": "succeeded", "b": "skipped", "c": "skipped", "d": "skipped", "e": "succeeded"}
    assert bench.listener.report("b").reason == "condition 'small' of conditional 'beside' was false"
    assert bench.listener.report("c").reason == "its upstream block 'b' was skipped"
    assert "condition 'small'" in bench.listener.text_of("b")


def test_all_conditions_of_a_block_must_be_true(bench: Bench) -> None:
    yes = "@condition\ndef yes(*args, **kwargs):\n    print(kwargs['parent_block_uuid'])\n    return True\n"
    no = "@condition\ndef no():\n    return 0\n"

    bench.execute(
        with_add_ons(
            bench, python("a", LOAD), condition(yes, "a", name="one"), condition(yes + no, "a", name="two")
        )
    )

    assert bench.listener.report("a").reason == "condition 'no' of conditional 'two' was false"
    assert bench.listener.text_of("a").startswith("a\n")


def test_a_condition_that_fails_counts_as_false_and_says_so(bench: Bench) -> None:
    result = bench.execute(
        with_add_ons(
            bench, python("a", LOAD), condition("@condition\ndef f():\n    raise KeyError('gone')\n", "a")
        )
    )

    assert result.state == "succeeded"
    report = bench.listener.report("a")
    assert report.state == "skipped"
    assert "counts as false" in (report.reason or "")
    assert "KeyError" in (report.reason or "")
    assert "KeyError: 'gone'" in bench.listener.text_of("a")


NO_ANSWERS = {
    "a generator": "@{kind}\ndef f():\n    yield False\n",
    "a coroutine": "@{kind}\nasync def f():\n    return False\n",
    "a DataFrame": "import pandas as pd\n@{kind}\ndef f():\n    return pd.DataFrame({{'a': [1, 2]}})\n",
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_what_is_no_answer_lets_nothing_pass(bench: Bench, answer: str) -> None:
    bench.execute(
        with_add_ons(
            bench,
            python("a", LOAD),
            condition(NO_ANSWERS[answer].format(kind="condition"), "a"),
            python("s", NO_ANSWERS[answer].format(kind="sensor")),
        )
    )

    said = f"f() returned {answer}, which says neither yes nor no; return True or False"
    skipped, failed = bench.listener.report("a"), bench.listener.report("s")
    assert (skipped.state, failed.state) == ("skipped", "failed")
    assert f"conditionals/beside.py: {said}" in (skipped.reason or "")
    assert failed.error == f"sensors/s.py: {said}"


def test_a_condition_of_children_is_asked_for_each_of_them(bench: Bench) -> None:
    items = "@data_loader\ndef f():\n    return [[1, 2, 3]]\n"
    odd = "@condition\ndef odd(item):\n    return item % 2\n"

    bench.execute(
        with_add_ons(
            bench,
            python("d", items, configuration={"dynamic": True}),
            python("c", NEXT, "d", configuration={"reduce_output": True}),
            python("end", NEXT, "c"),
            condition(odd, "c"),
        )
    )

    assert bench.listener.states()["c:1"] == "skipped"
    assert bench.outputs("end") == ([1, 3],)


def test_a_retry_is_not_asked_about_again(bench: Bench) -> None:
    once = "ASKED = []\n@condition\ndef once(**kwargs):\n    return kwargs['attempt'] == 1\n"
    flaky = "@data_loader\ndef f(**kwargs):\n    assert kwargs['attempt'] == 2\n    return 1\n"

    bench.execute(
        with_add_ons(
            bench,
            python("a", flaky, retry=RetryPolicy(retries=1, delay_seconds=0)),
            condition(once, "a"),
        )
    )

    assert bench.listener.report("a").state == "succeeded"


HEARD = """
@callback('success')
def well(value, **kwargs):
    print('well', value, kwargs['parent_block_uuid'], '__error' in kwargs)

@callback('failure')
def badly(value, **kwargs):
    print('badly', value, repr(kwargs['__error']))

@callback
def always(**kwargs):
    print('always', kwargs['__input'])

@callback('cancelled')
def never():
    print('never')
"""


def test_callbacks_hear_how_a_block_ended(bench: Bench) -> None:
    bench.execute(
        with_add_ons(bench, python("a", LOAD), python("bad", FAIL, "a"), callback(HEARD, "a", "bad"))
    )

    assert bench.listener.text_of("a").splitlines() == ["well 5 a False", "always {'a': 5}"]
    heard = bench.listener.text_of("bad")
    assert "badly None ValueError('no')" in heard
    assert "always {'bad': None, 'df_1': 5}" in heard  # what it stumbled over
    assert "never" not in heard


def test_a_failure_callback_waits_until_no_try_is_left(bench: Bench) -> None:
    bench.execute(
        with_add_ons(
            bench, python("bad", FAIL, retry=RetryPolicy(retries=2, delay_seconds=0)), callback(HEARD, "bad")
        )
    )

    assert bench.listener.text_of("bad").count("badly") == 1


def test_callbacks_hear_of_a_block_that_may_not_have_its_children(bench: Bench) -> None:
    items = "@data_loader\ndef f():\n    return [[1, 2, 3]]\n"
    told = (
        "@callback('failure')\ndef f(**kwargs):\n    print(kwargs['parent_block_uuid'], kwargs['__error'])\n"
    )
    spec = with_add_ons(
        bench,
        python("d", items, configuration={"dynamic": True}),
        python("c", NEXT, "d"),
        callback(told, "c"),
    )

    result = bench.execute(replace(spec, pipeline=replace(spec.pipeline, child_limit=2)))

    assert "'c' would have 3 children" in (result.error or "")
    assert "c block 'c' would have 3 children" in bench.listener.text_of("c")


@pytest.mark.parametrize("fault", ["RuntimeError('deaf')", "SystemExit(3)"])
def test_what_goes_wrong_in_a_callback_is_logged_and_fails_nothing(bench: Bench, fault: str) -> None:
    source = f"@callback\ndef f(value):\n    print('heard')\n    raise {fault}\n"

    result = bench.execute(with_add_ons(bench, python("a", LOAD), callback(source, "a")))

    assert result.state == "succeeded"
    assert f"raise {fault}" in bench.listener.text_of("a")
    assert bench.listener.text_of("a").count("heard") == 1


def test_callbacks_of_the_older_kind(bench: Bench) -> None:
    source = (
        "@on_success\ndef f(**kwargs):\n    print('up')\n@on_failure\ndef g(**kwargs):\n    print('down')\n"
    )

    bench.execute(with_add_ons(bench, python("a", LOAD), callback(source, "a")))

    assert bench.listener.text_of("a") == "up"


def test_callbacks_of_a_block_that_was_ended_from_outside_are_called_by_the_next_claim(bench: Bench) -> None:
    killed = BlockProgress("failed", 1, error="over its timeout", killed=True)

    result = bench.execute(
        with_add_ons(bench, python("a", LOAD), callback(HEARD, "a"), progress={"a": killed})
    )

    assert result.state == "failed"
    assert "badly None EndedFromOutside('over its timeout')" in bench.listener.text_of("a")
    assert ("started", "a") not in bench.listener.calls


SEE = """
from pathlib import Path

@sensor
def f(*args, **kwargs):
    return Path({path!r}).exists()
"""


def test_a_sensor_is_parked_until_it_sees(bench: Bench) -> None:
    seen = bench.root / "seen"
    blocks = (
        python("s", SEE.format(path=str(seen)), configuration={"poll_interval": "30s"}),
        python("a", NEXT, "s"),
    )

    waiting = bench.run(*blocks)
    report = bench.listener.report("s")
    progress = bench.listener.progress()
    seen.touch()
    bench.listener = Listener()
    bench.clock = lambda: now() + timedelta(seconds=31)
    done = bench.run(*blocks, progress=progress)

    assert (waiting.state, report.state, report.attempt, report.error) == ("waiting", "waiting", 0, None)
    assert waiting.retry_at is not None
    assert timedelta(seconds=20) < waiting.retry_at - now() <= timedelta(seconds=30)
    assert "looks every 30 s" in (report.reason or "")
    assert done.state == "succeeded"
    assert bench.listener.report("s").attempt == 1


def test_a_sensor_keeps_an_input_that_is_not_stored_for_its_next_look(bench: Bench) -> None:
    looks = """
from pathlib import Path

@sensor
def f(value, *, repo_path):
    assert value == 5
    seen = Path(repo_path, "seen")
    there = seen.exists()
    seen.touch()
    return there
"""
    # While this one runs the walk goes on, and looks again with what it has in memory.
    waits = """
import time
from pathlib import Path

@data_loader
def f(*, repo_path):
    deadline = time.monotonic() + 10
    while not Path(repo_path, "over").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
"""
    over = (
        "from pathlib import Path\n@custom\ndef f(*seen, repo_path):\n    Path(repo_path, 'over').touch()\n"
    )

    result = bench.run(
        python("volatile", LOAD, checkpoint=False),
        python("waits", waits),
        python("s", looks, "volatile", configuration={"poll_interval": 0.01}),
        python("over", over, "s"),
    )

    assert result.state == "succeeded", result.error


def test_a_sensor_has_a_timeout_over_all_of_its_looks(bench: Bench) -> None:
    never = SEE.format(path=str(bench.root / "never"))
    sensor = python("s", never, timeout_seconds=100, configuration={"poll_interval": 60})
    first = now()
    results = []
    for seconds in (0, 60, 100):
        bench.clock = lambda seconds=seconds: first + timedelta(seconds=seconds)  # type: ignore[misc]
        known = {
            name: replace(one, first_started_at=first) for name, one in bench.listener.progress().items()
        }
        results.append(bench.run(sensor, progress=known))
    result = results[-1]

    assert [one.retry_at for one in results[:2]] == [
        first + timedelta(seconds=60),
        first + timedelta(seconds=100),
    ]
    assert result.state == "failed"
    assert "waited longer than its timeout of 100 s" in (result.error or "")


def test_an_error_in_a_sensor_is_tried_again_by_the_policy(bench: Bench) -> None:
    source = "@sensor\ndef f():\n    raise OSError('away')\n"

    result = bench.run(python("s", source, retry=RetryPolicy(retries=1, delay_seconds=0)))

    assert result.state == "failed"
    assert bench.listener.report("s").attempt == 2


RULES = {
    # rule -> what becomes of a block behind one that succeeded, one that failed, and one that was skipped
    "all_success": ("succeeded", "upstream_failed", "skipped"),
    "all_done": ("succeeded", "succeeded", "succeeded"),
    "one_success": ("succeeded", "upstream_failed", "skipped"),
    "none_failed": ("succeeded", "upstream_failed", "succeeded"),
}


@pytest.mark.parametrize("rule", RULES)
def test_trigger_rules(bench: Bench, rule: str) -> None:
    bench.execute(
        with_add_ons(
            bench,
            python("good", LOAD),
            python("bad", FAIL),
            python("left", LOAD),
            python("after_good", NEXT, "good", trigger_rule=rule),
            python("after_bad", NEXT, "bad", trigger_rule=rule),
            python("after_left", NEXT, "left", trigger_rule=rule),
            python("after_both", NEXT, "good", "bad", trigger_rule=rule),
            condition("@condition\ndef no():\n    return False\n", "left"),
        )
    )

    states = bench.listener.states()
    assert (states["after_good"], states["after_bad"], states["after_left"]) == RULES[rule]
    expected = "succeeded" if rule in ("all_done", "one_success") else "upstream_failed"
    assert states["after_both"] == expected
    if expected == "succeeded":
        assert bench.outputs("after_both") == (5, None)


@pytest.mark.parametrize("where", ["pipeline", "run"])
def test_a_run_may_succeed_although_blocks_failed(bench: Bench, where: str) -> None:
    blocks = (
        python("a", LOAD),
        python("bad", FAIL, "a"),
        python("after", NEXT, "bad"),
        python("c", NEXT, "a"),
    )
    spec = with_add_ons(bench, *blocks, allow_blocks_to_fail=where == "pipeline")
    options = RunOptions(allow_blocks_to_fail=where == "run")

    result = bench.execute(
        RunSpec(spec.facts, spec.root, spec.pipeline, spec.sources, spec.variables, options=options)
    )

    assert result.state == "succeeded"
    states = bench.listener.states()
    assert (states["bad"], states["after"], states["c"]) == ("failed", "upstream_failed", "succeeded")
    assert "ValueError: no" in (bench.listener.report("bad").error or "")


def test_a_block_that_killed_its_process_twice_is_tried_alone(bench: Bench) -> None:
    beside = "from tests.pipelines import test_add_ons\n@data_loader\ndef f():\n    {}\n"
    wait = beside.format("import time; time.sleep(0.05); test_add_ons.ENDED.append(1)")
    count = beside.format("return len(test_add_ons.ENDED)")
    ENDED.clear()

    bench.run(
        python("suspect", count),
        python("b", wait),
        python("c", wait),
        progress={"suspect": BlockProgress(deaths=2)},
    )

    assert bench.outputs("suspect") == (2,)


ENDED: list[int] = []

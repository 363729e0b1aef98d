"""Block logs: everything a block writes comes to its own log, bounded, whatever it is written with."""

from __future__ import annotations

import os
import sys
import threading
import time
import tracemalloc
from concurrent.futures import Future
from pathlib import Path

import pytest

from pipelines.blocklogs import DEFAULT_CAPS, BlockLog, LogCaps
from pipelines.run import BlockReport
from tests.pipelines.running import Bench, python


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def loader(*body: str) -> str:
    return "@data_loader\ndef f(**kwargs):\n" + "".join(f"    {line}\n" for line in body)


WRITERS = {
    "print": (["print('hello')"], "info", "hello"),
    "print to stderr": (["import sys", "print('hello', file=sys.stderr)"], "warning", "hello"),
    "bytes": (["import sys", "sys.stdout.buffer.write(b'hello\\n')"], "info", "hello"),
    "no line end": (["print('hello', end='')"], "info", "hello"),
    "progress bar": (["print('1 %\\r50 %', end='')", "print('\\rhello')"], "info", "hello"),
    "given logger": (["kwargs['logger'].info('he%s', 'llo')"], "info", "hello"),
    "any logger": (["import logging", "logging.getLogger('x').error('hello')"], "error", "hello"),
    "warning": (["import warnings", "warnings.warn('hello')"], "warning", "UserWarning: hello"),
    "child": (["import subprocess", "subprocess.run(['echo', 'hello'])"], "info", "hello"),
    "child's stderr": (["import os", "os.system('echo hello >&2')"], "warning", "hello"),
    "file descriptor": (["import os", "os.write(1, b'hello')"], "info", "hello"),
    "thread": (
        ["import threading", "t = threading.Thread(target=print, args=('hello',))", "t.start(); t.join()"],
        "info",
        "hello",
    ),
    "forked child": (
        [
            "import multiprocessing as m",
            "p = m.get_context('fork').Process(target=print, args=('hello',))",
            "p.start(); p.join()",
        ],
        "info",
        "hello",
    ),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_block_writes_comes_to_its_log(bench: Bench, kind: str) -> None:
    body, level, text = WRITERS[kind]

    bench.run(python("a", loader(*body)))

    lines = [(owner, found, line) for owner, found, line in bench.listener.lines if text in line]
    assert [(owner, found) for owner, found, _ in lines] == [("a", level)]


def test_import_time_output_belongs_to_the_block_as_well(bench: Bench) -> None:
    bench.run(python("a", "print('loading')\n" + loader("return 1")))

    assert bench.listener.lines == [("a", "info", "loading")]


def test_branches_side_by_side_do_not_mix(bench: Bench) -> None:
    source = """
import logging, threading
from tests.pipelines import test_blocklogs

@data_loader
def f(**kwargs):
    for number in range(100):
        test_blocklogs.BARRIER.wait(10)
        print(kwargs["block_uuid"], end=" ")
        print(number)
        logging.warning("%s warns", kwargs["block_uuid"])
"""

    bench.run(python("a", source), python("b", source))

    for name in ("a", "b"):
        own = [line for owner, _, line in bench.listener.lines if owner == name]
        assert len(own) == 200
        assert all(line.startswith(name) for line in own)
        assert [line for line in own if "warns" not in line] == [f"{name} {n}" for n in range(100)]


BARRIER = threading.Barrier(2)


def test_a_traceback_comes_as_one_message(bench: Bench) -> None:
    bench.run(python("a", loader("raise ValueError('no')")))

    (line,) = bench.listener.lines
    assert line[:2] == ("a", "error")
    assert line[2].startswith("Traceback")
    assert line[2].endswith("ValueError: no")


def test_log_lines_come_before_the_end_of_their_block_is_told(bench: Bench) -> None:
    seen: list[int] = []

    def commit(report: BlockReport, future: Future[None]) -> None:
        seen.append(len(bench.listener.lines))
        future.set_result(None)

    bench.listener.commit = commit

    bench.run(python("a", loader("import os", "print('one')", "os.system('echo two')")))

    assert seen == [2]


def test_a_hundred_megabytes_neither_fill_the_memory_nor_stall(bench: Bench) -> None:
    source = loader("line = 'x' * 9_999", "for number in range(10_000):", "    print(line)")

    began = time.monotonic()
    tracemalloc.start()
    result = bench.run(python("a", source))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    kept = sum(len(line) for _, _, line in bench.listener.lines)
    assert result.state == "succeeded"
    assert kept <= DEFAULT_CAPS.block + 1000
    assert peak < 20_000_000
    assert time.monotonic() - began < 20
    assert "more lines" in bench.listener.lines[-1][2]


def test_a_child_that_floods_its_output_is_bounded_too(bench: Bench) -> None:
    bench.run(python("a", loader("import os", "os.system('yes | head -c 20000000')")))

    assert sum(len(line) for _, _, line in bench.listener.lines) <= DEFAULT_CAPS.block + 1000
    assert "were not kept" in bench.listener.text_of("a")


def collected(caps: LogCaps = DEFAULT_CAPS) -> tuple[BlockLog, list[str]]:
    lines: list[str] = []
    return BlockLog(lambda block, attempt, level, text: lines.append(text), "a", 1, caps), lines


def test_one_huge_print_is_cut() -> None:
    log, lines = collected(LogCaps(block=100))

    log.write("info", "x\n" * 1000)
    log.close()

    assert lines[:50] == ["x"] * 50
    assert lines[50:] == [
        "950 more lines (1900 characters) were not kept: a block run keeps 100 characters of log; "
        "write large output to a file"
    ]


def test_a_long_line_is_cut_and_says_so() -> None:
    log, lines = collected(LogCaps(line=20))

    log.message("info", "x" * 25)

    assert lines == ["x" * 20 + "... (5 more characters)"]


def test_characters_that_no_store_takes_are_replaced() -> None:
    log, lines = collected()

    log.write("info", "a\0b\ud800c\n")

    assert lines == ["a\N{REPLACEMENT CHARACTER}b?c"]


def test_the_process_streams_are_as_before_after_a_run(bench: Bench) -> None:
    streams, start = (sys.stdout, sys.stderr), threading.Thread.start
    descriptors = sorted(os.listdir("/proc/self/fd"))

    bench.run(python("a", loader("print(1)")))

    assert (sys.stdout, sys.stderr) == streams
    assert threading.Thread.start is start
    assert sorted(os.listdir("/proc/self/fd")) == descriptors

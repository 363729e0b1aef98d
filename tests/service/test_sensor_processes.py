"""Sensor processes, with real ones: pages, limits, deaths, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from sensors.base import Page, SensorError
from service.settings import Settings
from service.watching.messages import TickRequest
from service.watching.processes import SensorProcesses
from tests.parts.waiting import wait_until

CODE = """
import os, signal, time
from pathlib import Path

def note(root, word):
    with open(Path(root) / "notes", "a") as file:
        file.write(word + "\\n")

def pages(cursor, root):
    try:
        for number in range(3):
            yield {"key": number, "data": "x" * 10}
            yield {"cursor": number}
            note(root, f"committed {number}")
    except GeneratorExit:
        note(root, "given back")
        raise

def hangs(cursor, root):
    yield {"key": "before"}
    yield {"cursor": 1}
    note(root, "hanging")
    time.sleep(1000)

def dies(cursor, root):
    yield {"key": "before"}
    yield {"cursor": 1}
    os.kill(os.getpid(), signal.SIGKILL)

def large(cursor, root):
    for number in range(3):
        yield {"key": number, "data": "x" * 4_000_000}

def endless(cursor, root):
    number = 0
    while True:
        yield {"key": number}
        yield {"cursor": number}
        number += 1
"""


@dataclass
class Bench:
    processes: SensorProcesses
    root: Path

    def request(self, function: str, seconds: float = 30.0) -> TickRequest:
        return TickRequest(
            sensor="python",
            options={"path": "mine.py", "function": function, "root": str(self.root)},
            cursor=None,
            existing="trigger",
            source="python:a/b",
            root=self.root,
            now=datetime.now(UTC),
            seconds=seconds,
        )

    def pages(self, function: str, *, seconds: float = 30.0, **more: Any) -> Iterator[Page]:
        return self.processes.pages(self.request(function, seconds), **more)

    def keys(self, function: str, **more: Any) -> list[str]:
        return [event.key for page in self.pages(function, **more) for event in page.events]

    def notes(self) -> list[str]:
        file = self.root / "notes"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "mine.py").write_text(CODE)
    settings = Settings(project=(tmp_path,), home=tmp_path / "home")
    processes = SensorProcesses(settings, grace_seconds=0.3)
    yield Bench(processes, tmp_path)
    processes.close()


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_next_page_is_made_only_after_the_last_one_is_committed(bench: Bench) -> None:
    seen = [(len(page.events), bench.notes()) for page in bench.pages("pages")]

    assert [count for count, _ in seen] == [1, 1, 1, 0]
    assert [len(notes) for _, notes in seen] == [0, 1, 2, 3]


def test_page_that_is_not_committed_is_given_back(bench: Bench) -> None:
    with closing(bench.pages("pages")) as pages:
        next(pages)
        next(pages)

    assert bench.notes() == ["committed 0", "given back"]


def test_process_is_used_again(bench: Bench) -> None:
    bench.keys("pages")
    (pid,) = bench.processes.pids
    bench.keys("pages")

    assert bench.processes.pids == {pid}


def test_tick_that_hangs_is_ended_at_its_limit(bench: Bench) -> None:
    bench.keys("pages")  # so that a process is warm
    (pid,) = bench.processes.pids
    pages = bench.pages("hangs", seconds=0.5)
    first = next(pages)

    with pytest.raises(SensorError, match=r"did not end after 0\.5 s.*was given up.*raise `timeout`"):
        list(pages)

    assert [event.key for event in first.events] == ["before"]
    wait_until(lambda: is_gone(pid), what="the end of the process")
    assert bench.keys("pages") == ["0", "1", "2"]  # in another one


def test_death_of_the_process_is_an_error_of_its_tick_only(bench: Bench) -> None:
    beside: list[str] = []
    with closing(bench.pages("pages")) as other:
        beside += [event.key for event in next(other).events]
        with pytest.raises(SensorError, match="ended in the middle of the tick by signal 9"):
            bench.keys("dies")
        beside += [event.key for page in other for event in page.events]

    assert beside == ["0", "1", "2"]


def test_large_pages_come_whole(bench: Bench) -> None:
    (page,) = bench.pages("large")

    assert [len(event.data) for event in page.events] == [4_000_000] * 3


def test_tick_ends_when_it_is_told_to(bench: Bench) -> None:
    stop = threading.Event()
    taken = 0
    for _ in bench.pages("endless", is_stopping=stop.is_set):
        taken += 1
        if taken == 5:
            stop.set()

    assert 5 <= taken < 100


def test_tick_ends_at_its_time_after_the_current_page(bench: Bench) -> None:
    assert bench.keys("endless", seconds=0.2)


def test_ticks_of_shared_sensors_share_a_process(bench: Bench) -> None:
    with (
        closing(bench.pages("pages", shared=True)) as one,
        closing(bench.pages("pages", shared=True)) as two,
        closing(bench.pages("pages")) as alone,
    ):
        for pages in (one, two, alone):
            next(pages)

        assert len(bench.processes.pids) == 2


def test_hung_tick_of_a_shared_process_hurts_no_other(bench: Bench) -> None:
    with closing(bench.pages("pages", shared=True)) as beside:
        taken = [event.key for event in next(beside).events]
        (pid,) = bench.processes.pids
        with pytest.raises(SensorError, match="was given up"):
            bench.keys("hangs", shared=True, seconds=0.5)
        taken += [event.key for page in beside for event in page.events]

    assert taken == ["0", "1", "2"]
    wait_until(lambda: is_gone(pid), what="the end of the process that held the hung tick")


def test_changed_module_of_the_project_gets_a_fresh_process(bench: Bench) -> None:
    (bench.root / "helper.py").write_text("WORD = 'old'")
    (bench.root / "mine.py").write_text(
        "import helper\ndef poll(cursor, root):\n    yield {'key': helper.WORD}\n"
    )
    before = bench.keys("poll")
    (bench.root / "helper.py").write_text("WORD = 'brandnew'")

    assert (before, bench.keys("poll")) == (["old"], ["brandnew"])


def test_close_ends_the_processes(bench: Bench) -> None:
    bench.keys("pages")
    (pid,) = bench.processes.pids

    bench.processes.close()

    wait_until(lambda: is_gone(pid), what="the end of the process")
    with pytest.raises(SensorError, match="the engine is stopping"):
        bench.keys("pages")


ENGINE = """
import sys, time
from tests.service.test_sensor_processes import Bench
from service.settings import Settings
from service.watching.processes import SensorProcesses
from pathlib import Path

root = Path(sys.argv[1])
bench = Bench(SensorProcesses(Settings(project=(root,), home=root / "home")), root)
pages = bench.pages("hangs")
next(pages)
print(*bench.processes.pids, flush=True)
next(pages)
"""


def test_engine_that_is_killed_takes_its_processes_along(bench: Bench) -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", ENGINE, str(bench.root)], stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    with engine.stdout:
        pid = int(engine.stdout.readline())
        wait_until(lambda: bench.notes() == ["hanging"], what="a tick that hangs")

        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()

    wait_until(lambda: is_gone(pid), what="the end of the sensor process")

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.clocks.timer import Job, Timer
from service.clocks.timetable import Every

DEADLINE_SECONDS = 10.0
NEVER = Every(timedelta(days=3650))
EACH_SECOND = Every(timedelta(seconds=1))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer(pools={"work": 2}, beat_seconds=1, dead_after_seconds=3)
    timer.start()
    yield timer
    timer.stop()


def job(name: str, call: Callable[[], Any], timetable: Any = NEVER) -> Job:
    return Job(name, timetable, call, "work")


def test_new_job_is_called_at_once(timer: Timer) -> None:
    called = threading.Event()

    timer.reconcile({"a": job("a", called.set)})

    assert called.wait(DEADLINE_SECONDS)


def test_job_is_called_whenever_it_is_due(timer: Timer) -> None:
    calls: list[float] = []

    timer.reconcile({"a": job("a", lambda: calls.append(time.time()), EACH_SECOND)})

    wait_for(lambda: len(calls) >= 3)
    assert [round(moment % 1, 1) in (0.0, 0.1, 1.0) for moment in calls[1:3]] == [True, True]


def test_unchanged_job_is_left_alone_and_a_gone_one_removed(timer: Timer) -> None:
    calls: list[str] = []
    first = job("a", lambda: calls.append("a"))
    timer.reconcile({"a": first})
    wait_for(lambda: calls == ["a"])

    timer.reconcile({"a": first, "b": job("b", lambda: calls.append("b"))})
    wait_for(lambda: len(calls) == 2)
    timer.reconcile({})

    assert calls == ["a", "b"]
    assert timer.job_names == frozenset()


def test_job_can_ask_to_be_called_again(timer: Timer) -> None:
    calls: list[float] = []
    again = job("a", lambda: calls.append(time.monotonic()))
    timer.reconcile({"a": again})
    wait_for(lambda: len(calls) == 1)

    timer.call_again("a", timedelta(seconds=0.05))

    wait_for(lambda: len(calls) == 2)


def test_failing_job_is_logged_and_others_go_on(timer: Timer) -> None:
    called = threading.Event()

    with capture_logs() as logs:
        timer.reconcile({"bad": job("bad", lambda: 1 / 0)})
        wait_for(lambda: any(line["event"] == "a timed call failed" for line in logs))
    timer.reconcile({"good": job("good", called.set)})

    assert called.wait(DEADLINE_SECONDS)


def test_dead_thread_is_replaced_and_the_jobs_are_called_anew() -> None:
    timer = Timer(pools={"work": 1}, beat_seconds=1, dead_after_seconds=2)
    timer.start()
    calls: list[str] = []
    timer.reconcile({"a": job("a", lambda: calls.append("a"))})
    wait_for(lambda: calls == ["a"])

    # Paused, it is like one whose thread has died: it says that it runs, and calls nothing.
    timer._scheduler.pause()
    wait_for(lambda: len(calls) == 2)

    assert timer.is_alive
    timer.stop()

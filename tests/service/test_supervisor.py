from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from service.errors import SettingsError
from service.lifeline import Lifeline
from service.supervisor import Role, Supervisor, address_of, open_listener
from tests.parts.waiting import wait_until

# Each life of the child is a line in a file, written once its signal handlers stand.
STEADY = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open({lives!r}, "a").write("life\\n")
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({lives!r}, "a").write("life\\n")
while True: signal.pause()
"""
MORTAL = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
path = {lives!r}
open(path, "a").write("life\\n")
if len(open(path).readlines()) < 3: os.kill(os.getpid(), signal.SIGKILL)
signal.pause()
"""
REFUSING = "import sys; sys.exit(2)"


class Lives:
    """Counts how often a child of one kind came to life."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def role(self, name: str, source: str) -> Role:
        return Role(name, (sys.executable, "-c", source.format(lives=str(self._path))))

    def processes(self) -> list[psutil.Process]:
        below = psutil.Process().children(recursive=True)
        return [process for process in below if str(self._path) in " ".join(process.cmdline())]

    @property
    def count(self) -> int:
        return len(self._path.read_text().splitlines()) if self._path.exists() else 0


@pytest.fixture
def lives(tmp_path: Path) -> Lives:
    return Lives(tmp_path / "lives")


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    line = Lifeline()
    yield line
    line.cut()


def supervise(lifeline: Lifeline, *roles: Role, stop_seconds: float = 20) -> Supervisor:
    return Supervisor(roles, lifeline, os.environ, stop_seconds)


def terminate_when(condition: Callable[[], bool]) -> None:
    """Send this process SIGTERM once the condition holds; the supervisor in the main thread takes it."""

    def wait() -> None:
        wait_until(condition, seconds=20)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def test_a_child_that_dies_is_started_again(lives: Lives, lifeline: Lifeline) -> None:
    terminate_when(lambda: lives.count == 3)

    code = supervise(lifeline, lives.role("mortal", MORTAL)).run()

    assert (code, lives.count) == (0, 3)


def test_a_child_that_cannot_be_started_for_want_of_room_takes_nobody_with_it(
    lives: Lives, lifeline: Lifeline, tmp_path: Path
) -> None:
    nothing = Role("impossible", (str(tmp_path / "no such program"),))
    terminate_when(lambda: lives.count == 3)

    code = supervise(lifeline, nothing, lives.role("mortal", MORTAL)).run()

    assert (code, lives.count) == (0, 3)


def test_a_stop_waits_for_children_and_leaves_none(lives: Lives, lifeline: Lifeline) -> None:
    roles = [lives.role(name, STEADY) for name in ("one", "two")]
    terminate_when(lambda: lives.count == 2)

    code = supervise(lifeline, *roles).run()

    assert code == 0
    assert lives.processes() == []


def test_a_child_that_does_not_stop_is_killed(lives: Lives, lifeline: Lifeline) -> None:
    terminate_when(lambda: lives.count == 1)
    began = time.monotonic()

    code = supervise(lifeline, lives.role("stubborn", STUBBORN), stop_seconds=0.3).run()

    assert code == 0
    assert time.monotonic() - began < 15


def test_wrong_use_ends_everything_instead_of_being_repeated(lives: Lives, lifeline: Lifeline) -> None:
    steady = lives.role("steady", STEADY)
    refusing = Role("refusing", (sys.executable, "-c", REFUSING))

    assert supervise(lifeline, steady, refusing).run() == 2


def test_signal_handlers_are_given_back(lives: Lives, lifeline: Lifeline) -> None:
    before = signal.getsignal(signal.SIGTERM)
    terminate_when(lambda: lives.count == 1)

    supervise(lifeline, lives.role("steady", STEADY)).run()

    assert signal.getsignal(signal.SIGTERM) is before


def test_taken_port_is_a_sentence_that_says_what_to_do() -> None:
    with open_listener("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: address already in use.*--port"):
            open_listener("127.0.0.1", port)


def test_address_of_another_machine_is_not_called_a_taken_port() -> None:
    with pytest.raises(SettingsError, match="address of this machine by --host") as refused:
        open_listener("192.0.2.1", 0)

    assert "Is another service" not in str(refused.value)


def test_address_is_one_a_browser_can_open() -> None:
    with open_listener("0.0.0.0", 0) as everywhere:
        port = everywhere.getsockname()[1]

        assert address_of(everywhere) == f"http://127.0.0.1:{port}"

"""Wake-ups between the processes of one machine, for SQLite, which cannot notify."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LOOPBACK = "127.0.0.1"
MAX_TOPIC_BYTES = 512


class Signals:
    """Sends topics to every mailbox in a folder. A signal may get lost; whoever waits also polls, slowly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._seen: int | None = None
        self._ports: tuple[int, ...] = ()

    def send(self, topics: Iterable[str]) -> None:
        """Send each topic to each mailbox; never raises for one that is gone."""
        messages = [topic.encode("utf-8", "replace")[:MAX_TOPIC_BYTES] for topic in topics]
        if not messages:
            return
        with self._lock, suppress(OSError):
            for port in self._known_ports():
                for message in messages:
                    with suppress(OSError):
                        self._opened().sendto(message, (_LOOPBACK, port))

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        return self._socket

    def _known_ports(self) -> tuple[int, ...]:
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        if changed != self._seen:
            self._ports = tuple(_live_ports(self._folder))
            self._seen = changed
        return self._ports


class Mailbox:
    """A socket that receives topics, announced by a file whose lock shows that its owner lives."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_LOOPBACK, 0))
        self._file = folder / str(self._socket.getsockname()[1])
        # Locked before it has its final name: an unlocked file is taken for a dead process's and removed.
        draft = folder / f".{self._file.name}.{os.getpid()}"
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        draft.rename(self._file)

    def receive(self) -> str:
        """Wait for the next topic; an empty text means that the mailbox was closed."""
        return self._socket.recv(MAX_TOPIC_BYTES).decode("utf-8", "replace")

    def close(self) -> None:
        """End a waiting `receive` and take the mailbox off the folder."""
        self._file.unlink(missing_ok=True)
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", self._socket.getsockname())
        os.close(self._descriptor)

    def release(self) -> None:
        """Give the socket back, after the last `receive`."""
        self._socket.close()


def _live_ports(folder: Path) -> Iterable[int]:
    for entry in folder.iterdir():
        if entry.name.isdecimal():
            if _is_alive(entry):
                yield int(entry.name)
            else:
                entry.unlink(missing_ok=True)


def _is_alive(entry: Path) -> bool:
    try:
        descriptor = os.open(entry, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)

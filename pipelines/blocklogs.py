"""Sends what blocks print, log and warn of to the log of the right block run, also side by side.

Which block a line belongs to is known by a context variable, which threads that a block starts inherit. What
child processes write to the file descriptors belongs to the block that runs, or to the run when several do.
"""

from __future__ import annotations

import codecs
import contextlib
import contextvars
import io
import logging
import os
import select
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO

_CHUNK = 65_536
_CHUNKS_AT_ONCE = 16

Emit = Callable[[str | None, int, str, str], None]  # block, attempt, level, text


@dataclass(frozen=True, slots=True)
class LogCaps:
    """How much log is kept, in characters: of one block run, beyond which is only counted, and of a line."""

    block: int = 2_000_000
    line: int = 16_000


DEFAULT_CAPS = LogCaps()

_current_log: ContextVar[BlockLog | None] = ContextVar("current_log", default=None)


class BlockLog:
    """The log of one block run, with its caps. May be written by several threads."""

    def __init__(self, emit: Emit, block: str | None, attempt: int, caps: LogCaps = DEFAULT_CAPS) -> None:
        self._emit = emit
        self._block = block
        self._attempt = attempt
        self._left = caps.block
        self._caps = caps
        self._dropped_lines = 0
        self._dropped_characters = 0
        self._partial: dict[str, str] = {}  # by level: what has no line end yet
        self._lock = threading.RLock()  # emitting may log again

    def write(self, level: str, text: str) -> None:
        """Take text as a stream gives it: any number of lines, the last one perhaps unfinished."""
        with self._lock:
            if len(text) > self._left:
                self._drop(text.count("\n", self._left), len(text) - self._left)
                text = text[: self._left]
            lines = (self._partial.pop(level, "") + text).split("\n")
            rest = lines.pop()
            for line in lines:
                self._line(level, line)
            # A progress bar overwrites its line for ever; only what it shows last counts.
            rest = rest.rpartition("\r")[2] if "\r" in rest[:-1] else rest
            if len(rest) > self._caps.line:
                self._line(level, rest)
            elif rest:
                self._partial[level] = rest

    def message(self, level: str, text: str) -> None:
        """Take one whole message, which may have several lines."""
        with self._lock:
            self._entry(level, text)

    def close(self) -> None:
        """Emit unfinished lines, and say what was dropped."""
        with self._lock:
            for level, text in self._partial.items():
                self._line(level, text)
            self._partial.clear()
            if self._dropped_characters:
                self._emit(self._block, self._attempt, "warning", self._dropped())
                self._dropped_lines = self._dropped_characters = 0

    def _line(self, level: str, line: str) -> None:
        self._entry(level, line.removesuffix("\r").rpartition("\r")[2])

    def _entry(self, level: str, text: str) -> None:
        if self._left <= 0:
            self._drop(1, len(text))
            return
        longest = self._caps.line
        if len(text) > longest:
            text = f"{text[:longest]}... ({len(text) - longest} more characters)"
        self._left -= len(text) + 1
        self._emit(self._block, self._attempt, level, storable(text))

    def _drop(self, lines: int, characters: int) -> None:
        self._dropped_lines += lines
        self._dropped_characters += characters

    def _dropped(self) -> str:
        return (
            f"{self._dropped_lines} more lines ({self._dropped_characters} characters) were not kept: "
            f"a block run keeps {self._caps.block} characters of log; write large output to a file"
        )


def storable(text: str) -> str:
    """Replace what databases and JSON refuse."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class RunLogs:
    """The logs of one run: catches what its blocks write for as long as `capturing` lasts.

    One at a time in a process, since the standard streams are the process's.
    """

    def __init__(self, emit: Emit, caps: LogCaps = DEFAULT_CAPS) -> None:
        self._run_log = BlockLog(emit, None, 1, caps)
        self._emit = emit
        self._caps = caps
        self._running: list[BlockLog] = []
        self._lock = threading.Lock()
        self._descriptors: _Descriptors | None = None
        self._process = os.getpid()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self._descriptors = stack.enter_context(_captured_descriptors(self._write_foreign))
            stack.enter_context(contextlib.redirect_stdout(_Stream(self, "info", 1)))
            stack.enter_context(contextlib.redirect_stderr(_Stream(self, "warning", 2)))
            stack.enter_context(_handled_logging(self))
            stack.enter_context(_shown_warnings(self))
            stack.enter_context(_inherited_by_threads())
            try:
                yield
            finally:
                self._descriptors = None
        self._run_log.close()

    @contextmanager
    def of_block(self, block: str, attempt: int) -> Iterator[BlockLog]:
        """Send what this thread, and the threads it starts, write to the log of that block run."""
        log = BlockLog(self._emit, block, attempt, self._caps)
        token = _current_log.set(log)
        with self._lock:
            self._running.append(log)
        try:
            yield log
        finally:
            if self._descriptors is not None and os.getpid() == self._process:
                self._descriptors.drain()
            _current_log.reset(token)
            with self._lock:
                self._running.remove(log)
            log.close()

    def write(self, level: str, text: str, descriptor: int) -> None:
        if os.getpid() != self._process:
            # A forked child has copies of everything, the channel to the engine too; only the pipe is safe.
            os.write(descriptor, text.encode("utf-8", "replace"))
            return
        self._log().write(level, text)

    def message(self, level: str, text: str) -> None:
        if os.getpid() != self._process:
            os.write(2, f"{text}\n".encode("utf-8", "replace"))
            return
        self._log().message(level, text)

    def _log(self) -> BlockLog:
        return _current_log.get() or self._run_log

    def _write_foreign(self, level: str, text: str) -> None:
        with self._lock:
            log = self._running[0] if len(self._running) == 1 else self._run_log
        log.write(level, text)


class _Stream(io.TextIOBase, TextIO):
    """Stands in for sys.stdout or sys.stderr."""

    def __init__(self, logs: RunLogs, level: str, descriptor: int) -> None:
        self._logs = logs
        self._level = level
        self._descriptor = descriptor
        self._bytes = _BytesOf(self)

    @property
    def buffer(self) -> Any:
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        self._logs.write(self._level, text, self._descriptor)
        return len(text)


class _BytesOf(io.RawIOBase):
    """What `sys.stdout.buffer` is: bytes, to be read as UTF-8."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)


class _Handler(logging.Handler):
    def __init__(self, logs: RunLogs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._logs.message(_level_of(record), self.format(record))
        except Exception:
            self.handleError(record)


def _level_of(record: logging.LogRecord) -> str:
    if record.levelno >= logging.ERROR:
        return "error"
    if record.levelno >= logging.WARNING:
        return "warning"
    return "info" if record.levelno >= logging.INFO else "debug"


@contextmanager
def _handled_logging(logs: RunLogs) -> Iterator[None]:
    """Make ours the only handler of the root logger, and undo what blocks configured there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [_Handler(logs)]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _shown_warnings(logs: RunLogs) -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logs.message("warning", f"{filename}:{lineno}: {category.__name__}: {message}")

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def _inherited_by_threads() -> Iterator[None]:
    """Let threads start in the context of the thread that starts them; Python itself does from 3.14 on."""
    start = threading.Thread.start

    def start_in_context(thread: threading.Thread) -> None:
        run, context = thread.run, contextvars.copy_context()
        thread.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = start_in_context  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


class _Descriptors:
    """Reads what is written to file descriptors 1 and 2 past Python, by children and C code."""

    def __init__(self, pipes: Mapping[int, str], write: Callable[[str, str], None]) -> None:
        self._levels = pipes  # reading end -> level
        self._write = write
        self._lock = threading.Lock()
        self._decoders = {pipe: codecs.getincrementaldecoder("utf-8")("replace") for pipe in pipes}
        self._poll = select.poll()
        self._stop_reading, self._stop_writing = os.pipe()
        for pipe in (*pipes, self._stop_reading):
            os.set_blocking(pipe, False)
            self._poll.register(pipe, select.POLLIN)
        self._thread = threading.Thread(target=self._work, name="descriptors", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Deliver what is in the pipes by now. On the caller's thread: nobody has to be waited for."""
        with self._lock:
            for pipe, level in self._levels.items():
                self._drain_pipe(pipe, level)

    def close(self) -> None:
        os.write(self._stop_writing, b".")
        self._thread.join()
        self.drain()
        for descriptor in (*self._levels, self._stop_reading, self._stop_writing):
            os.close(descriptor)

    def _drain_pipe(self, pipe: int, level: str) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_CHUNKS_AT_ONCE):  # a child may write faster than this reads, for ever
                data = os.read(pipe, _CHUNK)
                if not data:
                    return
                self._write(level, self._decoders[pipe].decode(data))

    def _work(self) -> None:
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            if self._stop_reading in ready:
                return
            self.drain()


@contextmanager
def _captured_descriptors(write: Callable[[str, str], None]) -> Iterator[_Descriptors]:
    """Put pipes in the place of file descriptors 1 and 2."""
    sys.stdout.flush()
    sys.stderr.flush()
    originals = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    descriptors = _Descriptors({_replace_by_pipe(1): "info", _replace_by_pipe(2): "warning"}, write)
    try:
        yield descriptors
    finally:
        for descriptor, original in originals.items():
            os.dup2(original, descriptor)
            os.close(original)
        descriptors.close()


def _replace_by_pipe(descriptor: int) -> int:
    """Return the reading end of the pipe that has taken the descriptor's place."""
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)
    return reading

"""Runs a program for a block: its lines go to the block's log as they come; it never outlives the block."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

OnLine = Callable[[str], None]


def run_child(
    command: Sequence[str], *, folder: Path, environ: Mapping[str, str], out: OnLine, err: OnLine
) -> int:
    """Run `command` in `folder` and return its exit code; a negative one is the signal that ended it.

    It stays in the process group of the worker, and so ends with it, however that ends.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [_reader(process.stdout, out), _reader(process.stderr, err)]
    try:
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        for reader in readers:
            reader.join()
    return code


def _reader(stream: IO[str], on_line: OnLine) -> threading.Thread:
    """Read a stream to its end on a thread of its own: a full pipe would stop the program."""

    def read() -> None:
        with stream:
            for line in stream:
                on_line(line.rstrip("\r\n"))

    thread = threading.Thread(target=read, name="lines of a child", daemon=True)
    thread.start()
    return thread

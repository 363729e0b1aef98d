"""Whether a text file breaks off in its last line, as a download does that was cut."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from pipelines.io.errors import UnreadableFile

_BYTES_AT_ONCE = 1 << 20


def refuse_cut(path: Path, delimiter: str, compression: str | None) -> None:
    """Raise when the last line has no end and fewer fields than the first, which pandas would fill up."""
    first, last = _ends(path, compression)
    if not last or _fields(last, delimiter) >= _fields(first, delimiter):
        return
    wanted, found = _fields_of_ends(path, delimiter, compression)
    if found < wanted:
        text = last.decode(errors="replace")
        raise UnreadableFile(
            f"{path} cannot be read: its last line breaks off ({text[:60]!r}, {found} of {wanted} fields), "
            f"as in a file that was not transferred whole. Get it anew, or pass on_bad_lines='warn' to take "
            f"the line as it is"
        )


def _ends(path: Path, compression: str | None) -> tuple[bytes, bytes]:
    """Return the first line, and what follows the last end of a line."""
    first, last = b"", b""
    with pa.input_stream(str(path), compression=compression) as stream:
        while piece := stream.read(_BYTES_AT_ONCE):
            if not first:
                first = piece.partition(b"\n")[0]
            last = piece.rpartition(b"\n")[2] if b"\n" in piece else last + piece
    return first, last


def _fields(line: bytes, delimiter: str) -> int:
    return len(next(csv.reader([line.decode(errors="replace")], delimiter=delimiter), ()))


def _fields_of_ends(path: Path, delimiter: str, compression: str | None) -> tuple[int, int]:
    """Count the fields of the first and the last record, either of which may have ends of lines in quotes.

    Nothing shorter than the whole file tells where a quoted value began.
    """
    wanted = found = 0
    with (
        pa.input_stream(str(path), compression=compression) as stream,
        io.TextIOWrapper(stream, "utf-8", "replace", newline="") as text,
        suppress(csv.Error),  # pandas will say what is wrong
    ):
        for record in csv.reader(text, delimiter=delimiter):
            wanted, found = wanted or len(record), len(record)
        return wanted, found
    return 0, 0

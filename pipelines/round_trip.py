"""Changes YAML files that people write: comments, order and quotes stay, and nobody reads half a file."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def changed_yaml(text: str, change: Callable[[Any], None]) -> str:
    """Return `text` after `change` was done to its document. Raises YAMLError of ruamel."""
    yaml = YAML()  # the kind that keeps comments, quotes and order
    yaml.preserve_quotes = True
    yaml.width = 10_000  # long lines stay lines
    yaml.indent(**_indents_of(text))
    document: Any = yaml.load(text)
    change(document)
    sink = io.StringIO()
    yaml.dump(document, sink)
    return sink.getvalue()


def _indents_of(text: str) -> dict[str, int]:
    """Return how the file indents its lists: most put the dash below the key, some two to the right."""
    is_indented = re.search(r"^\w+:\n +- ", text, re.MULTILINE) is not None
    return {"mapping": 2, "sequence": 4, "offset": 2} if is_indented else {"mapping": 2, "sequence": 2}


def replace_file(file: Path, text: str) -> None:
    """Put a new text in the place of a file, as a whole and durably."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("x", encoding="utf-8", newline="") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
        draft.chmod(file.stat().st_mode & 0o777)
        draft.rename(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

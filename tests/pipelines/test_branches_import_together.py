"""Branches that begin together import the same library at the same time."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.pipelines.running import Bench, python

WHOLE = "import ringed\n@data_loader\ndef f():\n    return ringed.VALUE\n"
PART = "from ringed.inner import VALUE\n@data_loader\ndef f():\n    return VALUE\n"


class SlowFinder:
    """Finds nothing itself, and takes long to say so: the branches meet while the package is looked for."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "ringed":
            time.sleep(0.3)


def test_library_whose_modules_import_each_other_is_imported_without_deadlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "ringed"
    library.mkdir()
    (library / "__init__.py").write_text("from ringed.inner import VALUE\n")
    (library / "inner.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [SlowFinder(), *sys.meta_path])
    bench = Bench(tmp_path)

    result = bench.run(python("a", WHOLE), python("b", PART), python("c", WHOLE), python("d", PART))

    assert result.state == "succeeded", bench.listener.reports

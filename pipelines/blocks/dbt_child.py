"""The program that runs dbt: REQUEST.json names the calls, RESULT.json gets how each ended.

It runs by the Python that has dbt, which need not be ours, from a copy beside the request; so it knows
nothing of Millrace. In a process of its own, since dbt keeps its settings, log and adapters in globals.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

NOT_INSTALLED = 90  # the exit code where this Python has no dbt


def main(folder: Path) -> int:
    try:
        from dbt.cli.main import dbtRunner
    except ImportError as error:
        _tell(folder, [{"error": str(error)}])
        return NOT_INSTALLED
    request = json.loads((folder / "request.json").read_text("utf-8"))
    ended = []
    for number, arguments in enumerate(request["calls"]):
        result = dbtRunner().invoke(arguments)
        ended.append({"success": bool(result.success), "error": _sentence(result.exception)})
        _keep_results(folder, number)
        _tell(folder, ended)
        if not result.success:
            return 1
    return 0


def _sentence(exception: BaseException | None) -> str | None:
    return None if exception is None else str(exception) or type(exception).__name__


def _keep_results(folder: Path, number: int) -> None:
    """Take the results of a call away, before the next call writes its own."""
    written = folder / "target" / "run_results.json"
    if written.exists():
        shutil.move(written, folder / f"run_results_{number}.json")


def _tell(folder: Path, ended: list[dict[str, Any]]) -> None:
    (folder / "result.json").write_text(json.dumps(ended), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

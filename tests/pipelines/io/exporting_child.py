"""A process that is one attempt of a block which appends; killed at a crash point, if one is named.

python -m tests.pipelines.io.exporting_child ROOT CONNECTOR RUN_ID [CRASH_POINT]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

import pipelines.io
from pipelines.crash import CrashPoints
from tests.pipelines.io.projects import running_block


def main(root: str, connector: str, target: str, options: str, run_id: str, crash: str = "") -> None:
    with running_block(Path(root), run_id=run_id, crash=CrashPoints(crash or None)):
        made = getattr(pipelines.io, connector).from_profile("default")
        for part in range(2):
            frame = pd.DataFrame({"run": [run_id] * 3, "part": [part] * 3, "row": range(3)})
            made.export(frame, *json.loads(target), **json.loads(options))


if __name__ == "__main__":
    main(*sys.argv[1:])

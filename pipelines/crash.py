"""Named points at which a process can be made to die, so that tests can visit each of them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

# Every point inside this floor. The service has a list of its own for its commits.
CONNECTOR_POINTS = frozenset(
    {
        "effect.staged",  # rows wait aside, in a table that the next job reads
        "effect.part",  # one of several files or objects is in its place
        "effect.before_commit",  # a connector has written, and has not committed
        "effect.after_commit",  # it has committed; nobody was told yet
        "effect.before_rename",  # the rows are committed aside; the table has not its name yet
        "effect.after_rename",  # it has its name, and that is not recorded
        "checkpoint.before_rename",  # the output is on the disk, under a name nobody looks for
        "checkpoint.after_rename",  # it is there; the block is not recorded as finished yet
    }
)


@dataclass(frozen=True, slots=True)
class CrashPoints:
    """Kill the process, as `kill -9` would, when it comes to the point of that name. None: never."""

    name: str | None = None

    def __call__(self, point: str) -> None:
        if point == self.name:
            os.kill(os.getpid(), signal.SIGKILL)

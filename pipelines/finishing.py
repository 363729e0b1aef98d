"""Makes blocks finished, in the order they ended: the output stored, then the report committed.

One thread for each run, so that no block waits for the disk, and an upstream block is always told of first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pipelines.checkpoints import Checkpoints
from pipelines.errors import NotStorableError
from pipelines.runspec import BlockReport, RunListener, RunSpec

LONGEST_FILE_NAME = 180  # characters of a block's name, as file names have it


@dataclass(frozen=True)
class Ending:
    """A block that ended. `outputs` is the writer's own copy, None when there is nothing to store."""

    report: BlockReport
    outputs: tuple[Any, ...] | None = None


# Called once for each ending, with the report as it was sent and the error that kept it from being committed.
Finished = Callable[[BlockReport, BaseException | None], None]


class Finisher:
    """Stores and reports what ended, on a thread of its own. `close` waits for what was handed in."""

    def __init__(
        self, spec: RunSpec, listener: RunListener, checkpoints: Checkpoints, finished: Finished
    ) -> None:
        self._spec = spec
        self._listener = listener
        self._checkpoints = checkpoints
        self._finished = finished
        self._endings: queue.SimpleQueue[Ending | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="finisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hand_in(self, ending: Ending) -> None:
        self._endings.put(ending)

    def close(self) -> None:
        self._endings.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (ending := self._endings.get()) is not None:
            self._finish(ending)
            del ending  # or the last output would stay in memory until the next one comes

    def _finish(self, ending: Ending) -> None:
        report = ending.report
        try:
            if ending.outputs is not None:
                report = self._store(report, ending.outputs)
            committed = self._listener.block_ended(report)
        except Exception as error:
            self._finished(report, error)
            return
        committed.add_done_callback(lambda future: self._finished(report, _error_of(future)))

    def _store(self, report: BlockReport, outputs: tuple[Any, ...]) -> BlockReport:
        try:
            manifest = self._checkpoints.save(
                self._spec.facts.run_id,
                _file_name(report.block),
                report.attempt,
                outputs,
                allow_pickle=self._spec.pipeline.allow_pickle,
            )
        except Exception as error:  # whatever it is, the run can go on
            known = isinstance(error, (NotStorableError, OSError))
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            text = f"the output could not be stored, so a resumed run would run this block again: {reason}"
            self._listener.log(report.block, report.attempt, "warning", text, report.finished_at)
            return dataclasses.replace(report, volatile=True)
        return dataclasses.replace(report, checkpoint=manifest)


def _file_name(block: str) -> str:
    """Return the name for the files of a block: children can have longer names than file systems take."""
    if len(quote(block, safe="")) <= LONGEST_FILE_NAME:
        return block
    return f"{block[:20]}~{hashlib.sha256(block.encode()).hexdigest()[:16]}"


def _error_of(future: Future[None]) -> BaseException | None:
    return RuntimeError("the report was cancelled") if future.cancelled() else future.exception()

"""What becomes of blocks whose process was ended, or died, before they could say it themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.clock import Clock
from service.running.endings import Ending, RunningBlock
from service.store.values import BlockEnded, BlockState

DEATH_LIMIT = 5  # a block whose worker died this often fails (DESIGN 6)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The reports of one claim of a run, in the place of a process that makes none any more."""

    run_id: str
    claim: int
    clock: Clock

    def cancelled(self, name: str, block: RunningBlock) -> BlockEnded:
        return self._ended(name, BlockState.CANCELLED, block.attempt, block.deaths)

    def interrupted(self, name: str, block: RunningBlock) -> BlockEnded:
        """The try that was cut off is not counted."""
        return self._ended(name, BlockState.QUEUED, block.attempt - 1, block.deaths)

    def over_limit(self, name: str, block: RunningBlock, ending: Ending) -> BlockEnded:
        error = ending.fault_of(name, block, time.monotonic())
        if error is None:  # interrupted siblings spend no retry
            return self.interrupted(name, block)
        if block.retry_seconds is None:
            return self.failed_for_good(name, block, error)
        retry_at = self.clock() + timedelta(seconds=block.retry_seconds)
        return self._ended(
            name, BlockState.WAITING, block.attempt, block.deaths, error=error, retry_at=retry_at
        )

    def failed_for_good(self, name: str, block: RunningBlock, error: str | None) -> BlockEnded:
        return self._ended(name, BlockState.FAILED, block.attempt, block.deaths, error=error)

    def died(self, name: str, block: RunningBlock, how: str) -> BlockEnded:
        """The block runs again; after DEATH_LIMIT deaths it fails."""
        deaths = block.deaths + 1
        if deaths < DEATH_LIMIT:
            return self._ended(name, BlockState.QUEUED, block.attempt - 1, deaths)
        error = (
            f"The worker process died {deaths} times while block '{name}' ran; the last time {how}. "
            "Look for os._exit, a crash in native code, or the system's out-of-memory killer."
        )
        return self._ended(name, BlockState.FAILED, block.attempt, deaths, error=error)

    def _ended(
        self,
        name: str,
        state: BlockState,
        attempt: int,
        deaths: int,
        *,
        error: str | None = None,
        retry_at: datetime | None = None,
    ) -> BlockEnded:
        return BlockEnded(
            self.run_id,
            self.claim,
            name,
            state,
            attempt,
            self.clock(),
            deaths=deaths,
            error=error,
            retry_at=retry_at,
            killed=state is BlockState.FAILED,
        )

"""Why a worker process is ended from outside, and when: the limits that `active_run` holds a run to."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a worker process, in the units their names say."""

    memory_mb: int
    drain_seconds: float  # how long siblings of a block over its limit may go on
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class RunningBlock:
    attempt: int
    deaths: int
    started: float  # monotonic
    timeout_seconds: float | None
    memory_mb: int | None
    retry_seconds: float | None  # the wait before the next try, None when none is left


class Cause(Enum):
    BLOCK_LIMIT = auto()  # a block is over its time or memory
    RUN_LIMIT = auto()  # the run is over the time of its pipeline
    CANCEL = auto()  # somebody asked for it
    CLAIM_LOST = auto()  # the run is another engine's now
    GIVEN_BACK = auto()  # this engine stops, or could not renew the claim in time
    SILENCE = auto()  # the process is stopped and has not been heard of for a whole lease


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the process will be killed, and when at the latest."""

    cause: Cause
    kill_at: float  # monotonic
    culprit: str | None = None
    error: str | None = None

    def is_kill_due(self, running: Mapping[str, RunningBlock], now: float) -> bool:
        """Say whether nobody is waited for any more: not for those that are over their own time, too."""
        return now >= self.kill_at or all(
            name == self.culprit or overtime(name, block, now) for name, block in running.items()
        )

    def fault_of(self, name: str, block: RunningBlock, now: float) -> str | None:
        """Return what is held against a block that was ended with the process; None for mere siblings."""
        return self.error if name == self.culprit else overtime(name, block, now)

    def is_over_with(self, ended: str, now: float) -> bool:
        """Say whether nobody has to be killed any more: the culprit came to its end by itself, in time."""
        return ended == self.culprit and now < self.kill_at


def overtime_of_run(deadline: float, timeout_seconds: float, pipeline: str, now: float) -> Ending | None:
    """`deadline`: on the monotonic clock."""
    if now <= deadline:
        return None
    error = (
        f"The run took longer than the timeout of its pipeline, {timeout_seconds:g} s, and was ended. "
        f"Raise `timeout` in pipelines/{pipeline}/metadata.yaml (`run_timeout`, where its trigger says so), "
        f"or give the run less to do."
    )
    return Ending(Cause.RUN_LIMIT, kill_at=now, error=error)


def overtime_of_block(running: Mapping[str, RunningBlock], limits: Limits, now: float) -> Ending | None:
    for name, block in running.items():
        if (error := overtime(name, block, now)) is not None:
            kill_at = now + limits.drain_seconds
            return Ending(Cause.BLOCK_LIMIT, kill_at=kill_at, culprit=name, error=error)
    return None


def overtime(name: str, block: RunningBlock, now: float) -> str | None:
    """Return the sentence about a block over its time; None for one that is not."""
    if block.timeout_seconds is None or now - block.started <= block.timeout_seconds:
        return None
    return (
        f"Block '{name}' ran longer than its timeout of {block.timeout_seconds:g} s and was ended. "
        f"Raise `timeout` in the pipeline's metadata.yaml, or give the block less to do."
    )


def overweight(
    running: Mapping[str, RunningBlock], limits: Limits, used_bytes: int, now: float
) -> Ending | None:
    """The process is measured as a whole: of several blocks the one that began last is blamed."""
    name, block = max(running.items(), key=lambda item: item[1].started)
    used_mb, allowed_mb = used_bytes / 2**20, block.memory_mb or limits.memory_mb
    if used_mb <= allowed_mb:
        return None
    beside = sorted(set(running) - {name})
    error = (
        f"Block '{name}' was ended: its process used {used_mb:,.0f} MB, {allowed_mb:,.0f} MB are allowed"
        + (f" (beside it ran {', '.join(beside)})" if beside else "")
        + ". Raise `memory` of the block, or read the data in parts."
    )
    return Ending(Cause.BLOCK_LIMIT, kill_at=now, culprit=name, error=error)


def silence(limits: Limits, now: float) -> Ending:
    error = f"because it had been stopped from outside, and was silent for {limits.lease_seconds:g} s"
    return Ending(Cause.SILENCE, kill_at=now, error=error)


def describe_exit(exit_code: int) -> str:
    """Return how a process ended, to follow "it died"."""
    if exit_code >= 0:
        return f"with exit code {exit_code}"
    try:
        return f"by signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"by signal {-exit_code}"  # a real-time signal has no name

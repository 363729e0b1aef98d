"""Jobs that run once: their ids come from the effect, and a job that is there is not made again."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from google.api_core import exceptions
from google.cloud import bigquery

from pipelines.context import current_block
from pipelines.io.bigquery.names import label
from pipelines.io.bigquery.settings import BigQuerySettings
from pipelines.io.effects import Effect
from pipelines.io.errors import ConnectionFailed, QueryFailed
from pipelines.io.google import said, told_plainly

# What a job may fail of, and succeed when it is tried again.
_PASSING = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
    }
)
_ROWS = "rows"  # a label: how many rows a job writes, where the job itself does not know


@dataclass
class Jobs:
    """The jobs of one piece of work: of one effect, or, without it, of a call outside of blocks."""

    client: bigquery.Client
    settings: BigQuerySettings
    location: str | None
    effect: Effect | None

    def __post_init__(self) -> None:
        self._id = uuid4().hex if self.effect is None else self.effect.id

    @property
    def token(self) -> str:
        """The id as a part of names."""
        return hashlib.sha256(self._id.encode()).hexdigest()[:24]

    @property
    def attempt(self) -> int:
        """Return which try of the block this is, as a part of the names of steps that may be done again."""
        return 1 if self.effect is None else self.effect.context.attempt

    def crash(self, point: str) -> None:
        if self.effect is not None:
            self.effect.crash(point)

    def finished(self, step: str) -> Any | None:
        """Return the ended job of a step that an earlier attempt began; None if it has to be done."""
        if self.effect is None:
            return None
        for number in itertools.count(1):
            job = self._existing(self._name(step, number))
            if job is None or _succeeded(job):
                return job
        return None

    def run(self, step: str, start: Callable[[str], Any]) -> Any:
        """Do a step once: `start(job_id)` begins a job, which is waited for. Returns the job.

        The job of an earlier attempt is taken up, and one that failed is followed by another.
        """
        for number in itertools.count(1):
            name = self._name(step, number)
            job = None if self.effect is None else self._existing(name)
            if job is None:
                return self._begun(name, start)
            if _succeeded(job):
                return job
        raise AssertionError("numbers do not end")

    def labels(self, rows: int | None = None) -> dict[str, str]:
        """Return what a job says of where it comes from."""
        labels = {"created_by": "millrace"} | ({} if rows is None else {_ROWS: str(rows)})
        context = current_block.get()
        if context is None:
            return labels
        return labels | {
            "run_id": label(context.run_id),
            "pipeline": label(context.pipeline.name),
            "block": label(context.block.name),
        }

    def _name(self, step: str, number: int) -> str:
        return f"millrace_{self.token}_{step}_{number}"

    def _begun(self, name: str, start: Callable[[str], Any]) -> Any:
        with self.told():
            try:
                job = start(name)
            except exceptions.Conflict:  # another attempt was faster
                job = self.client.get_job(name, location=self.location)
            _waited_for(job)
        log_bytes(job)
        return job

    def _existing(self, name: str) -> Any | None:
        with self.told():
            try:
                return self.client.get_job(name, location=self.location)
            except exceptions.NotFound:
                return None

    @contextmanager
    def told(self) -> Any:
        """Raise what BigQuery says as our own errors."""
        with told_plainly("BigQuery", self.settings.google):
            try:
                yield
            except (exceptions.BadRequest, exceptions.NotFound, exceptions.Conflict) as error:
                raise QueryFailed(said(error)) from error


def _waited_for(job: Any) -> None:
    try:
        job.result()
    except exceptions.GoogleAPICallError as error:
        reason = (job.error_result or {}).get("reason")
        if reason in _PASSING:
            raise ConnectionFailed(f"BigQuery could not end a job: {said(error)}; try again") from error
        raise


def _succeeded(job: Any) -> bool:
    """Wait for a job that somebody began, and tell how it ended."""
    try:
        job.result()
    except exceptions.GoogleAPICallError:
        if job.error_result is None:  # it is not known how the job ended: asking failed
            raise
        return False
    return True


def rows_of(job: Any) -> int:
    """Return how many rows a job wrote, or touched."""
    labelled: Mapping[str, str] = job.labels or {}
    if _ROWS in labelled:
        return int(labelled[_ROWS])
    if isinstance(job, bigquery.LoadJob):
        return int(job.output_rows or 0)
    return int(job.num_dml_affected_rows or 0)


def log_bytes(job: Any) -> None:
    """Tell the block's log what a query was billed for."""
    if not isinstance(job, bigquery.QueryJob):
        return
    context = current_block.get()
    logger = logging.getLogger(__name__) if context is None else context.logger
    billed = job.total_bytes_billed
    if billed is not None:
        logger.info("BigQuery billed %s bytes for the query of job %s", f"{billed:,}", job.job_id)

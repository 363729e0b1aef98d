"""Runs of other pipelines: `mage_ai.orchestration`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines import calls
from pipelines.calls import CalledRun


def trigger_pipeline(
    pipeline_uuid: str,
    repo_path: str | None = None,
    variables: Mapping[str, Any] | None = None,
    check_status: bool = False,
    error_on_failure: bool = False,
    poll_interval: float = 60,
    poll_timeout: float | None = None,
    schedule_name: str | None = None,
    verbose: bool = True,
    **_: Any,
) -> CalledRun:
    """Start a run of another pipeline, once over all tries of the block; see `pipelines.calls`."""
    return calls.trigger_pipeline(
        pipeline_uuid,
        variables=variables,
        check_status=check_status,
        error_on_failure=error_on_failure,
        poll_timeout=poll_timeout,
        verbose=verbose,
    )


def check_status(
    pipeline_uuid: str,
    execution_date: datetime,
    repo_path: str | None = None,
    block_uuid: str | None = None,
    hours: float = 24,
    **_: Any,
) -> bool:
    """Tell whether the pipeline, or the block in it, has ended well since `hours` before that moment.

    A run that failed is no news here: a later one may succeed, and the sensor that asks waits for it.
    """
    found = calls.latest_outputs(pipeline_uuid, [block_uuid] if block_uuid else [])
    if found is None:
        return False
    moment = execution_date if execution_date.tzinfo else execution_date.replace(tzinfo=UTC)
    return found.finished_at >= moment - timedelta(hours=hours)

"""`mage_ai.run`: run a pipeline from the code of another."""

from __future__ import annotations

from typing import Any

from pipelines.calls import CalledRun
from pipelines.mage.triggers import trigger_pipeline


def run(
    pipeline_uuid: str,
    project_path: str | None = None,
    block_uuid: str | None = None,
    run_sensors: bool = True,
    **global_vars: Any,
) -> CalledRun:
    """Run a pipeline of the project and wait for its end. Raises RunFailed when it did not succeed.

    It runs whole: `block_uuid` and `run_sensors` choose nothing here.
    """
    return trigger_pipeline(pipeline_uuid, variables=global_vars, check_status=True, error_on_failure=True)

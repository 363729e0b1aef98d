"""Variables and outputs of pipelines: `mage_ai.data_preparation.variable_manager`."""

from __future__ import annotations

from typing import Any

from pipelines import calls, global_variables


def get_variable(pipeline_uuid: str, block_uuid: str, key: str = "output_0", *_: Any, **__: Any) -> Any:
    """Return an output of a block in the latest successful run of a pipeline."""
    return calls.get_variable(pipeline_uuid, block_uuid, key)


def set_global_variable(pipeline_uuid: str, key: str, value: Any, *_: Any, **__: Any) -> None:
    """Write a variable into the pipeline's `metadata.yaml`; runs that begin later see it."""
    global_variables.set_global_variable(pipeline_uuid, key, value)


def get_global_variable(pipeline_uuid: str, key: str, *_: Any, **__: Any) -> Any:
    """Return a variable that the pipeline declares; None when it has none of that name."""
    return global_variables.get_global_variable(pipeline_uuid, key)


def get_global_variables(pipeline_uuid: str, *_: Any, **__: Any) -> dict[str, Any]:
    """Return all variables that the pipeline declares."""
    return global_variables.get_global_variables(pipeline_uuid)


def delete_global_variable(pipeline_uuid: str, key: str, *_: Any, **__: Any) -> None:
    """Take a variable out of the pipeline's `metadata.yaml`."""
    global_variables.delete_global_variable(pipeline_uuid, key)

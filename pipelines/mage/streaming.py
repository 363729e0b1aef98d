"""The bases of streaming blocks. They can be imported and derived from; streaming pipelines are not run."""

from __future__ import annotations

from typing import Any

from pipelines.errors import TerminalError


class _NotRun:
    def __init__(self, *_: Any, **__: Any) -> None:
        raise TerminalError(
            f"{type(self).__name__}: streaming pipelines are not run; let a trigger start a pipeline for "
            f"each message or batch (type: webhook, or a sensor such as pubsub_message)"
        )


class BaseStreamingPipeline(_NotRun):
    pass


class BasePythonSource(_NotRun):
    pass


class BasePythonSink(_NotRun):
    pass

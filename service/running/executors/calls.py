"""The worker process's side of calls: what a block asks for goes over the channel, and its thread waits."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from pipelines.calls import (
    CalledRun,
    CallFailed,
    CallRefused,
    ProductAnswer,
    StartRun,
    StoredOutputs,
)
from pipelines.products import Product
from pipelines.values import plain
from service.running.executors.base import Message
from service.running.executors.channel import Channel


class ChannelCalls:
    """`pipelines.calls.ServiceCalls` for the blocks of one run."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def start(self, wanted: StartRun) -> CalledRun:
        return _run_of(
            self._ask(
                "start",
                pipeline=wanted.pipeline,
                key=wanted.key,
                variables=dict(wanted.variables),
                execution_date=plain(wanted.execution_date),
                is_awaited=wanted.is_awaited,
            )
        )

    def wait(self, run_id: str, timeout_seconds: float | None = None) -> CalledRun:
        return _run_of(self._ask("wait", run_id=run_id, timeout_seconds=timeout_seconds))

    def latest(self, pipeline: str, blocks: Sequence[str] = ()) -> StoredOutputs | None:
        found = self._ask("latest", pipeline=pipeline, blocks=list(blocks))["outputs"]
        return _outputs_of(found[0]) if found else None

    def product(
        self, product: Product, *, call: str, is_parked: bool, gone: Sequence[str] = ()
    ) -> ProductAnswer:
        answer = self._ask(
            "product", product=product.as_plain(), asker=call, is_parked=is_parked, gone=list(gone)
        )
        return ProductAnswer(tuple(map(_outputs_of, answer["outputs"])), answer["awaited"])

    def answered(self, message: Message) -> None:
        """Take an answer from the engine."""
        with self._lock:
            future = self._open.pop(message["id"], None)
        if future is None:
            return
        if "error" not in message:
            future.set_result(message["value"])
        else:
            kind = CallRefused if message["terminal"] else CallFailed
            future.set_exception(kind(message["error"]))

    def close(self) -> None:
        """End the waits of threads that outlive their run."""
        with self._lock:
            self._closed = True
            left, self._open = self._open, {}
        for future in left.values():
            future.set_exception(CallRefused("the run of this block is over"))

    def _ask(self, call: str, **wanted: Any) -> dict[str, Any]:
        """Send a call and wait for its answer. Raises CallRefused, CallFailed."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._closed:
                raise CallRefused("the run of this block is over")
            number = next(self._numbers)
            self._open[number] = future
        self._channel.send({"type": "call", "id": number, "call": call, "wanted": wanted})
        return future.result()


def _run_of(values: Mapping[str, Any]) -> CalledRun:
    times = ("execution_date", "created_at", "started_at", "finished_at")
    return CalledRun(**{**values, **{name: _moment(values[name]) for name in times}})


def _outputs_of(values: Mapping[str, Any]) -> StoredOutputs:
    return StoredOutputs(values["run_id"], datetime.fromisoformat(values["finished_at"]), values["manifests"])


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

"""Lets many callers share one commit: what comes while one is under way goes into the next."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from service.errors import Closed, CommitUnknown, QueueFull, StoreUnavailable
from service.store.commits import Commit
from service.store.database import Database, Transaction

Item = TypeVar("Item")
Result = TypeVar("Result")
AGAIN_SECONDS = 0.25
MAX_GATHER_STEPS = 6
Apply = Callable[[Transaction, Sequence[Item]], Sequence[Result | Exception]]


class GroupCommit(Generic[Item, Result]):
    """One writer thread that applies whatever has gathered, in the order it came, in one transaction."""

    def __init__(
        self,
        database: Database,
        commit: Commit,
        apply: Apply[Item, Result],
        *,
        max_batch: int = 256,
        max_queue: int = 2000,
        patience_seconds: float = 0.0,
        gather_seconds: float = 0.0,
    ) -> None:
        """Set up the writer; `start` begins its work.

        `patience_seconds`: how long a batch is tried again while the store is away. Only for an `apply` that
        may be repeated: the try before may have been committed after all.
        `gather_seconds`: under load, how long after an arrival to wait for another one.
        """
        self._database = database
        self._commit = commit
        self._apply = apply
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._patience_seconds = patience_seconds
        self._gather_seconds = gather_seconds
        self._under_load = False
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._closed = threading.Event()  # ends a wait for the store
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer; only after a fork, since threads do not survive one."""
        self._thread = threading.Thread(target=self._run, name=f"commit-{self._commit}", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Result]:
        """Queue an item; its future completes once the transaction that holds it is committed.

        Raises QueueFull. The future fails with StoreUnavailable (nothing was written), CommitUnknown, or
        whatever is wrong with the item itself.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closing:
                raise Closed(f"the writer of {self._commit}")
            if len(self._waiting) >= self._max_queue:
                raise QueueFull(self._commit, len(self._waiting))
            self._waiting.append((item, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write what is queued, as far as the store is there, then end. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._write(batch)

    def _next_batch(self) -> list[tuple[Item, Future[Result]]]:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
        if self._under_load and self._gather_seconds:
            self._gather()
        with self._changed:
            size = min(len(self._waiting), self._max_batch)
            self._under_load = size > 1
            return [self._waiting.popleft() for _ in range(size)]

    def _gather(self) -> None:
        """Give those who were answered just now the time to come again, as long as more keep coming.

        While this thread writes it competes with theirs for the interpreter: one larger batch costs less.
        """
        for _ in range(MAX_GATHER_STEPS):
            before = len(self._waiting)
            time.sleep(self._gather_seconds)
            if len(self._waiting) == before:
                return

    def _write(self, batch: Sequence[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._apply_patiently([item for item, _ in batch])
        except (StoreUnavailable, CommitUnknown) as error:
            _fail(batch, error)
        except Exception as error:
            self._write_alone(batch, error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                _settle(future, result)

    def _apply_patiently(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        give_up_at = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._database.write(self._commit, lambda tx: self._apply(tx, items))
            except (StoreUnavailable, CommitUnknown):
                if time.monotonic() >= give_up_at or self._closed.wait(AGAIN_SECONDS):
                    raise

    def _write_alone(self, batch: Sequence[tuple[Item, Future[Result]]], error: Exception) -> None:
        """Find out who broke the batch: the others must not suffer for it."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        for one in batch:
            self._write([one])


def _settle(future: Future[Result], result: Result | Exception) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _fail(batch: Sequence[tuple[Item, Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        _settle(future, error)

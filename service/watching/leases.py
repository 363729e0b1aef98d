"""Keeps the claims of running ticks, however long a sensor takes for its first page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.errors import StoreError
from service.store.sensors import SensorClaim, renew_claims
from service.store.session import Commit, Database

logger = structlog.get_logger(__name__)


class Leases:
    """One thread renews the claims of all ticks that go on. An engine that dies keeps none of them."""

    def __init__(self, database: Database, every_seconds: float) -> None:
        self._database = database
        self._every_seconds = every_seconds
        self._held: dict[int, SensorClaim] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="sensor-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def kept(self, claim: SensorClaim) -> Iterator[None]:
        """Renew the claim until the body ends."""
        if claim.is_shared:
            yield
            return
        with self._lock:
            self._held[id(claim)] = claim
        try:
            yield
        finally:
            with self._lock:
                del self._held[id(claim)]

    def _renew_on(self) -> None:
        while not self._stopping.wait(self._every_seconds):
            with self._lock:
                held = tuple(self._held.values())
            if held:
                self._renew(held)

    def _renew(self, held: tuple[SensorClaim, ...]) -> None:
        try:
            self._database.write(Commit.RENEW, lambda tx: renew_claims(tx, held))
        except StoreError as error:
            logger.warning("could not renew the claims of sensor ticks", error=str(error))

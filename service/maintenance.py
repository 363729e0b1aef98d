"""Deletes what is too old: rows in small batches, then the checkpoint files of runs."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import structlog

from service.errors import MillraceServiceError
from service.runtime import Runtime
from service.settings import Settings
from service.store.ids import new_id
from service.store.prune import BATCH, Pruned, Retention, prune
from service.store.session import Commit

logger = structlog.get_logger(__name__)

SET_ASIDE = ".deleted"
SHORTEST_LIFE = timedelta(minutes=1)  # of the checkpoints of finished runs, however full the disk is
PAUSE_SECONDS = 0.05  # between two batches, in which others get their turn to write


class Maintenance:
    """Prunes now and then on a thread of its own. Several engines may do so at once."""

    def __init__(self, runtime: Runtime, *, batch: int = BATCH) -> None:
        self._runtime = runtime
        self._batch = batch
        self._retention = retention_of(runtime.settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._prune_on, name="maintenance", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the batch at hand is done."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def prune(self) -> int:
        """Delete all that is too old, or what there is time for before the stop; return how many rows."""
        return self._prune_all(self._retention) + self._prune_to_cap()

    def _prune_to_cap(self) -> int:
        """Shorten the life of checkpoints by half and half again, until they fit under their cap."""
        rows = 0
        retention = self._retention
        cap = self._runtime.settings.checkpoint_gb * 1e9
        while not self._stopping.is_set() and size_of(self._runtime.settings.checkpoints) > cap:
            if retention.checkpoints < SHORTEST_LIFE:
                logger.warning("checkpoints of open runs exceed MILLRACE_CHECKPOINT_GB")
                break
            retention = replace(retention, checkpoints=retention.checkpoints / 2)
            rows += self._prune_all(retention)
        return rows

    def _prune_all(self, retention: Retention) -> int:
        total = 0
        while not self._stopping.is_set():
            pruned = self._prune_batch(retention)
            delete_set_aside(self._runtime.settings.checkpoints)
            if pruned.is_done:
                break
            total += pruned.rows
            self._stopping.wait(PAUSE_SECONDS)
        return total

    def _prune_batch(self, retention: Retention) -> Pruned:
        move = partial(set_aside, self._runtime.settings.checkpoints)
        return self._runtime.database.write(
            Commit.PRUNE, lambda tx: prune(tx, retention, set_aside=move, batch=self._batch)
        )

    def _prune_on(self) -> None:
        while not self._stopping.wait(self._runtime.settings.prune_seconds):
            try:
                rows = self.prune()
            except MillraceServiceError as error:
                logger.warning("could not prune; it is tried again", error=str(error))
            except Exception:
                logger.exception("could not prune; it is tried again")
            else:
                if rows:
                    logger.info("pruned", rows=rows)


def retention_of(settings: Settings) -> Retention:
    """Return how long everything is kept, as the settings say."""
    return Retention(
        payloads=timedelta(days=settings.payload_days),
        events=timedelta(days=settings.event_days),
        deliveries=timedelta(days=settings.delivery_days),
        runs=timedelta(days=settings.run_days),
        logs=timedelta(days=settings.log_days),
        checkpoints=timedelta(days=settings.checkpoint_days),
    )


def set_aside(checkpoints: Path, run_ids: Sequence[str]) -> None:
    """Move the checkpoints of these runs to where `delete_set_aside` finds them. What is gone is fine.

    The layout is that of `pipelines.checkpoints`, which is not imported: it would bring pandas in.
    """
    for run_id in run_ids:
        if not run_id.strip("."):
            continue  # dots are the one thing that quoting leaves, and they lead out of the folder
        folder = checkpoints / quote(run_id, safe="")
        try:
            (checkpoints / SET_ASIDE).mkdir(exist_ok=True)
            folder.rename(checkpoints / SET_ASIDE / new_id())
        except FileNotFoundError:
            continue
        except OSError as error:
            logger.warning("could not delete checkpoints", folder=str(folder), error=str(error))


def size_of(folder: Path) -> int:
    """Return the bytes of all files below the folder; what vanishes meanwhile does not count."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                total += size_of(Path(entry)) if is_folder else entry.stat(follow_symlinks=False).st_size
    return total


def delete_set_aside(checkpoints: Path) -> None:
    """Delete what was set aside, also what an engine left that died before it could."""
    with suppress(FileNotFoundError):
        for folder in list((checkpoints / SET_ASIDE).iterdir()):
            shutil.rmtree(folder, ignore_errors=True)

"""For each sensor, the outside system it watches, so that one suite can hold all of them to one contract."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.sensors.bigquery_rig import BigQueryRig
from tests.sensors.gcs_rig import GcsRig
from tests.sensors.http_rig import HttpRig
from tests.sensors.pubsub_rig import PubSubRig
from tests.sensors.python_rig import PythonRig
from tests.sensors.rig import Rig
from tests.sensors.sql_rig import PostgresRig, SqliteByWatermarkRig, SqliteRig


class FilesRig(Rig):
    @property
    def options(self) -> Mapping[str, Any]:
        return {"path": str(self._folder()), "pattern": "**/*.csv"}

    @property
    def wrong_options(self) -> Mapping[str, Any]:
        return {"pattern": "*.csv", "colour": "red"}

    def put(self, name: str, content: str, stamp: datetime | None = None) -> None:
        path = self._folder() / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if stamp is not None:
            os.utime(path, (stamp.timestamp(), stamp.timestamp()))

    def delete(self, name: str) -> None:
        (self._folder() / f"{name}.csv").unlink()

    def break_down(self) -> None:
        self._folder().rename(self.scratch / "elsewhere")

    def _folder(self) -> Path:
        folder = self.scratch / "inbox"
        if not (self.scratch / "elsewhere").exists():
            folder.mkdir(exist_ok=True)
        return folder


# Sensor, and after a comma how it is used where one sensor has several uses.
RIGS: Mapping[str, type[Rig]] = {
    "bigquery": BigQueryRig,
    "files": FilesRig,
    "gcs_object": GcsRig,
    "http": HttpRig,
    "pubsub_message": PubSubRig,
    "python": PythonRig,
    "sql": SqliteRig,
    "sql, watermark": SqliteByWatermarkRig,
    "sql, postgres, watermark": PostgresRig,
}

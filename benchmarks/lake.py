"""A frame as Parquet to the emulator of Google Cloud Storage, against an upload of the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from benchmarks.measure import Row
from benchmarks.taxi import ROWS, in_turn, profile_of, taxi_frame
from pipelines.io import GoogleCloudStorage
from tests.parts.gcs import running_gcs


def measure(folder: Path) -> Iterator[Row]:
    with running_gcs() as emulator, mock.patch.dict(os.environ, emulator.environ):
        bucket = emulator.make_bucket()
        lake = GoogleCloudStorage.from_profile(
            profile_of(folder, {"GOOGLE_STORAGE_ENDPOINT": emulator.endpoint})
        )
        frame = taxi_frame()
        client = Client(
            project="bench-mark",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": emulator.endpoint},
        )
        lake.export(frame, bucket, "trips.parquet")
        ready = folder / "trips.parquet"
        client.bucket(bucket).blob("trips.parquet").download_to_filename(str(ready))
        compared = in_turn(
            lambda: lake.export(frame, bucket, "trips.parquet"),
            lambda: client.bucket(bucket).blob("raw.parquet").upload_from_filename(str(ready)),
        )
        lake.close()
    yield Row(
        "",
        f"{ROWS:,} taxi rows as Parquet to the emulator of Cloud Storage",
        f"{compared.ours:.2f} s",
        f"raw upload of its {ready.stat().st_size / 2**20:.0f} MB {compared.theirs:.2f} s {compared.times}",
        "",
        None,
    )

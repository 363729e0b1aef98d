"""The connector for Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from google.api_core import exceptions
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption

from pipelines.io.errors import ConnectionFailed
from pipelines.io.google import GoogleSettings, said, told_plainly
from pipelines.io.objects.connector import ObjectConnector
from pipelines.io.objects.store import ObjectChanged, ObjectMissing, Store, Stored

if TYPE_CHECKING:
    from pipelines.io.config import Profile

# Larger files are sent in chunks of this many bytes, each of which is tried again by itself.
_CHUNK = 8 * 2**20


class GoogleCloudStorage(ObjectConnector):
    """Loads and exports objects in buckets of Google Cloud Storage; see ObjectConnector.

    Profile, all optional: GOOGLE_SERVICE_ACC_KEY (a key as a mapping) or GOOGLE_SERVICE_ACC_KEY_FILEPATH
    (from the project's folder), without them the machine's default credentials; GOOGLE_STORAGE_ENDPOINT.
    An emulator is named by STORAGE_EMULATOR_HOST, as for Google's own clients.
    """

    name: ClassVar[str] = "gcs"

    def __init__(self, settings: GoogleSettings) -> None:
        super().__init__()
        self._settings = settings

    @classmethod
    def _from_settings(cls, profile: Profile) -> Self:
        return cls(
            GoogleSettings.of(
                profile, endpoint_key="GOOGLE_STORAGE_ENDPOINT", emulator_variable="STORAGE_EMULATOR_HOST"
            )
        )

    def _opened(self) -> Store:
        return GcsStore(self._settings)


class GcsStore(Store):
    """Cloud Storage by its JSON API."""

    scheme = "gs"

    def __init__(self, settings: GoogleSettings) -> None:
        credentials, project = settings.credentials()
        options = {"api_endpoint": settings.endpoint} if settings.endpoint else None
        self._settings = settings
        self._client = Client(project=project, credentials=credentials, client_options=options)

    def head(self, bucket: str, name: str) -> Stored | None:
        with self._told(bucket, name):
            found = self._client.bucket(bucket).get_blob(name)
        return None if found is None else _stored(found)

    def listed(self, bucket: str, prefix: str) -> Iterator[Stored]:
        with self._told(bucket, prefix, f"there is no bucket {bucket!r}"):
            for blob in self._client.list_blobs(bucket, prefix=prefix):
                yield _stored(blob)

    def fetch(self, bucket: str, name: str, path: Path) -> None:
        with self._told(bucket, name):
            # One answer, read in pieces: only of a whole answer the client checks the checksum.
            self._client.bucket(bucket).blob(name).download_to_filename(str(path), checksum="crc32c")

    def put(
        self, bucket: str, name: str, path: Path, *, instead_of: Stored | None, metadata: Mapping[str, str]
    ) -> None:
        blob = self._client.bucket(bucket).blob(name, chunk_size=_CHUNK)
        blob.metadata = dict(metadata)
        generation = 0 if instead_of is None else int(instead_of.version)
        with self._told(bucket, name, f"there is no bucket {bucket!r}"):
            blob.upload_from_filename(str(path), if_generation_match=generation, checksum="crc32c")

    def delete(self, bucket: str, seen: Stored) -> None:
        blob = self._client.bucket(bucket).blob(seen.name)
        try:
            with self._told(bucket, seen.name):
                blob.delete(if_generation_match=int(seen.version))
        except (ObjectMissing, ObjectChanged):
            return

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _told(self, bucket: str, name: str, missing: str = "") -> Iterator[None]:
        address = self.address(bucket, name)
        with told_plainly(address, self._settings):
            try:
                yield
            except exceptions.NotFound as error:
                raise ObjectMissing(missing or f"there is no object {address}") from error
            except exceptions.PreconditionFailed as error:
                raise ObjectChanged(
                    f"{address} was changed by somebody else while it was written; nothing was written. "
                    "Try again, or let only one run at a time write it"
                ) from error
            except DataCorruption as error:
                raise ConnectionFailed(f"{address} was damaged on its way: {said(error)}") from error


def _stored(blob: Blob) -> Stored:
    return Stored(blob.name, int(blob.size or 0), str(blob.generation), dict(blob.metadata or {}))

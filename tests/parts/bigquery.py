"""A BigQuery emulator: one for each test process. It lives in an environment of its own, on Python 3.13.

The environment is large, so it is made once, in the user's cache folder: `python -m tests.parts.bigquery`.
CI makes it by itself; at home the tests that want it are skipped until it is there.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tests.parts.ports import free_port
from tests.parts.waiting import wait_until

VERSION = "0.3.2"
DUCKDB = "1.5.5"
EXTENSIONS = ("icu", "ducklake", "spatial", "httpfs")
REQUIREMENTS = (
    f"local-bigquery=={VERSION}",
    f"duckdb=={DUCKDB}",
    *(f"duckdb-extension-{name}=={DUCKDB}" for name in EXTENSIONS),
    "pytz",
)
PYTHON = "python3.13"
PROJECT = "millrace-tests"
READY_SECONDS = 60.0
SETUP = "run `python -m tests.parts.bigquery` once (0.7 GB in your cache folder)"


class BigQueryEmulator:
    """A running emulator, and what tests ask of it."""

    project = PROJECT

    def __init__(self, home: Path, folder: Path, storage: str | None = None) -> None:
        self._home = home
        self._folder = folder
        self._storage = storage  # the endpoint of a Cloud Storage emulator, for loads from gs://
        self._numbers = itertools.count(1)
        self._shared: dict[str, str] = {}
        self.port, self._grpc_port = free_port(), free_port()
        self._process = self._started()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make_dataset(self) -> str:
        dataset = f"data_{next(self._numbers)}"
        with closing(self.client()) as client:
            client.create_dataset(f"{PROJECT}.{dataset}")
        return dataset

    def shared_table(self, columns: str) -> str:
        """Return a table with these columns, the same for all tests: to make one takes its time."""
        if columns not in self._shared:
            table = f"{self.make_dataset()}.shared"
            self.run(f"CREATE TABLE {table} ({columns})")
            self._shared[columns] = table
        return self._shared[columns]

    def number(self) -> int:
        """Return a number of the caller's own."""
        return next(self._numbers)

    def run(self, statement: str) -> None:
        with closing(self.client()) as client:
            client.query_and_wait(statement)

    def client(self) -> bigquery.Client:
        return bigquery.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": self.endpoint},
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        environ = {**os.environ, "HOME": str(self._home)}
        if self._storage is not None:
            environ["STORAGE_EMULATOR_HOST"] = self._storage
        process = subprocess.Popen(
            [
                str(self._home / "venv/bin/local-bigquery"), "serve", "--host", "127.0.0.1",
                "--port", str(self.port), "--grpc-port", str(self._grpc_port),
                "--project", PROJECT, "--data-dir", str(self._folder),
            ],
            env=environ,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: self._answers(process), seconds=READY_SECONDS, what="the BigQuery emulator")
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, "the BigQuery emulator ended"
        try:
            path = f"/bigquery/v2/projects/{PROJECT}/datasets"
            return requests.get(self.endpoint + path, timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def running_bigquery(storage: str | None = None) -> Iterator[BigQueryEmulator]:
    """Start the emulator; where its environment is missing, skip at home and make it in CI."""
    home = home_folder()
    if not _is_complete(home):
        if not os.environ.get("CI"):
            pytest.skip(f"the BigQuery emulator is not set up; {SETUP}")
        set_up(home)
    with tempfile.TemporaryDirectory(prefix=f"millrace-bq-{os.getpid()}-") as folder:
        emulator = BigQueryEmulator(home, Path(folder), storage)
        try:
            yield emulator
        finally:
            emulator.close()


def home_folder() -> Path:
    """Return the emulator's home: its environment, and the extensions that DuckDB looks for there."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "millrace" / f"local-bigquery-{VERSION}"


def set_up(home: Path) -> None:
    """Make the environment, once, however many processes want it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_complete(home):
            return
        venv = home / "venv"
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([_python(), "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
        _copy_extensions(home)
        _done(home).touch()


def _copy_extensions(home: Path) -> None:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    folder = home / ".duckdb" / "extensions" / f"v{DUCKDB}" / f"linux_{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    packages = home / "venv" / "lib" / PYTHON / "site-packages"
    for name in EXTENSIONS:
        found = packages / f"duckdb_extension_{name}" / "extensions" / f"v{DUCKDB}"
        shutil.copy(found / f"{name}.duckdb_extension", folder)


def _python() -> str:
    """Return a Python 3.13 that runs: a shim of pyenv may be there without one."""
    candidates = [shutil.which(PYTHON)]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += [str(path / "bin" / PYTHON) for path in sorted(pyenv.glob("3.13.*"), reverse=True)]
    for python in filter(None, candidates):
        try:
            subprocess.run([python, "-c", "import venv"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    raise RuntimeError(f"the BigQuery emulator wants Python 3.13, and {PYTHON} is not there; install it")


def _is_complete(home: Path) -> bool:
    return _done(home).exists()


def _done(home: Path) -> Path:
    return home / "complete"


if __name__ == "__main__":
    set_up(home_folder())
    sys.stdout.write(f"the BigQuery emulator is in {home_folder()}\n")

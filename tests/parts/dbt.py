"""A dbt for the tests, in an environment of its own: it pins libraries that Millrace has in newer versions.

The environment is made once, in the user's cache folder: `python -m tests.parts.dbt`. CI makes it by itself;
at home the tests that want it are skipped until it is there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

VERSION = "1.10"
REQUIREMENTS = ("dbt-core>=1.10,<1.11", "dbt-postgres", "dbt-duckdb<1.11")
SETUP = "run `python -m tests.parts.dbt` once (0.3 GB in your cache folder)"


def dbt_python() -> str:
    """Return the Python that has dbt; where there is none, skip at home and make it in CI."""
    home = home_folder()
    if not _done(home).exists():
        if not os.environ.get("CI"):
            pytest.skip(f"dbt is not set up; {SETUP}")
        set_up(home)
    return str(_python(home))


def home_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "millrace" / f"dbt-{VERSION}"


def set_up(home: Path) -> None:
    """Make the environment, once, however many processes want it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _done(home).exists():
            return
        shutil.rmtree(home / "venv", ignore_errors=True)
        venv.create(home / "venv", with_pip=True)
        pip = [str(_python(home)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *REQUIREMENTS], check=True)
        _done(home).touch()


def _python(home: Path) -> Path:
    return home / "venv" / "bin" / "python"


def _done(home: Path) -> Path:
    return home / "complete"


if __name__ == "__main__":
    set_up(home_folder())
    sys.stdout.write(f"dbt is in {home_folder()}\n")

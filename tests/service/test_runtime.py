from __future__ import annotations

import stat
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.runtime import build_runtime
from service.settings import load_settings


def test_the_folder_of_the_state_is_for_its_owner_only(tmp_path: Path) -> None:
    runtime = build_runtime(load_settings(project=(tmp_path,), home=tmp_path / "deep" / "home"))
    runtime.close()

    assert stat.S_IMODE((tmp_path / "deep" / "home").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="MILLRACE_HOME"):
        build_runtime(load_settings(project=(tmp_path,), home=tmp_path / "file" / "home"))

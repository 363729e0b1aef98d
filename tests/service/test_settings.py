from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsError
from service.settings import Settings, document, load_settings, unknown_variables

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MILLRACE_")]:
        monkeypatch.delenv(name)


def test_state_lives_in_the_first_project_by_default(tmp_path: Path) -> None:
    settings = load_settings(project=(tmp_path / "one", tmp_path / "two"))

    assert settings.home == tmp_path / "one" / ".millrace"
    assert settings.database_url == f"sqlite:///{tmp_path}/one/.millrace/millrace.db"
    assert settings.checkpoints == tmp_path / "one" / ".millrace" / "checkpoints"


def test_current_folder_is_the_default_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_settings().project == (tmp_path,)


def test_environment_names_several_projects_as_path_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_PROJECT", f"{tmp_path}/one:{tmp_path}/two")
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "state"))

    settings = load_settings()

    assert settings.project == (tmp_path / "one", tmp_path / "two")
    assert settings.database_url == f"sqlite:///{tmp_path}/state/millrace.db"


def test_command_line_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PORT", "7000")

    assert load_settings(port=None).port == 7000
    assert load_settings(port=8000).port == 8000


def test_every_wrong_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PORT", "http")
    monkeypatch.setenv("MILLRACE_SLOTS", "0")

    with pytest.raises(SettingsError, match=r"MILLRACE_PORT: .*integer.*MILLRACE_SLOTS: .*greater"):
        load_settings()


def test_one_wrong_value_is_one_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_PROJECT", os.pathsep)

    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert str(refused.value) == "MILLRACE_PROJECT: names no project folder"


def test_short_token_is_measured_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_API_TOKEN", "short")

    with pytest.raises(SettingsError, match="at least 16 characters"):
        load_settings()


def test_secret_value_is_in_no_message_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_API_TOKEN", "hush")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hush" not in str(refused.value)

    monkeypatch.setenv("MILLRACE_API_TOKEN", "hush-hush-hush-hush")
    monkeypatch.setenv("MILLRACE_DATABASE_URL", "postgresql://me:hush@host/db")
    assert "hush" not in repr(load_settings())


def test_lease_must_outlive_two_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_LEASE_SECONDS", "6")

    with pytest.raises(SettingsError, match="at most half of MILLRACE_LEASE_SECONDS"):
        load_settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_loopback_needs_no_token(host: str) -> None:
    load_settings(host=host).require_safe_address()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="MILLRACE_API_TOKEN"):
        load_settings(host=host).require_safe_address()

    load_settings(host=host, api_token="a-long-random-text").require_safe_address()


def test_misspelt_settings_are_noticed_but_secrets_are_not() -> None:
    environ = {"MILLRACE_DATABSE_URL": "x", "MILLRACE_PORT": "1", "MILLRACE_SECRET_SHOP": "x", "HOME": "/"}

    assert unknown_variables(environ) == ["MILLRACE_DATABSE_URL"]


def test_page_of_settings_is_up_to_date() -> None:
    written = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")

    assert written == document(), "run: python -m service.settings > docs/settings.md"


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []

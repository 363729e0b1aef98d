"""Profiles are rendered value by value, say what they lack, and show no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.io.config import ProfileError, Profiles, check_profiles
from pipelines.parse_fields import Findings
from pipelines.secrets import Secrets

CONFIG = """\
version: 0.1.1
default:
  # {{ env_var('NEVER_SET') }} in a comment harms nobody
  POSTGRES_HOST: "{{ env_var('PGHOST') }}"
  POSTGRES_PORT: {{ env_var('PGPORT', 5432) }}
  POSTGRES_PASSWORD: "{{ secret('pg') }}"
  POSTGRES_DBNAME: "shop_{{ env.var('STAGE') }}"
  GOOGLE_SERVICE_ACC_KEY:
    type: service_account
    private_key: "{{ env_var('KEY') }}"
  QUOTED: "{{ env_var('PGPORT') }}"
dev:
  POSTGRES_HOST: "{{ env_var('NEVER_SET') }}"
  EMPTY:
"""


def profiles(tmp_path: Path, text: str | None = CONFIG, **environ: str) -> Profiles:
    if text is not None:
        (tmp_path / "io_config.yaml").write_text(text)
    return Profiles(tmp_path, environ=environ, secrets=Secrets(None, environ))


def test_values_are_rendered_when_asked_for(tmp_path: Path) -> None:
    environ = {"PGHOST": "db", "PGPORT": "6000", "STAGE": "x", "KEY": "k", "MILLRACE_SECRET_PG": "pw"}
    profile = profiles(tmp_path, **environ).profile()

    assert profile["POSTGRES_HOST"] == "db"
    assert profile["POSTGRES_PORT"] == 6000
    assert profile["QUOTED"] == "6000"
    assert profile["POSTGRES_PASSWORD"] == "pw"
    assert profile["POSTGRES_DBNAME"] == "shop_x"
    assert profile["GOOGLE_SERVICE_ACC_KEY"] == {"type": "service_account", "private_key": "k"}
    assert profile.get("NOPE", "default") == "default"
    assert "POSTGRES_HOST" in profile


def test_unset_variable_harms_only_its_own_value(tmp_path: Path) -> None:
    found = profiles(tmp_path, PGHOST="db")

    assert found.profile()["POSTGRES_HOST"] == "db"
    assert found.profile()["POSTGRES_PORT"] == 5432
    with pytest.raises(
        ProfileError, match=r"profile 'dev', io_config.yaml:13: POSTGRES_HOST: .*NEVER_SET is not set"
    ):
        found.profile("dev")["POSTGRES_HOST"]


OLD = """\
default:
  PostgreSQL:
    database: shop
    host: "{{ env_var('PGHOST') }}"
    password: "{{ secret('pg') }}"
    port: {{ env_var('PGPORT') }}
    user: me
  POSTGRES_USER: you
"""


def test_settings_in_the_older_nested_form_of_mage_count(tmp_path: Path) -> None:
    environ = {"PGHOST": "db", "PGPORT": "6000", "MILLRACE_SECRET_PG": "pw"}
    profile = profiles(tmp_path, OLD, **environ).profile()

    assert profile.require("POSTGRES_DBNAME") == "shop"
    assert profile["POSTGRES_HOST"] == "db"
    assert profile["POSTGRES_PASSWORD"] == "pw"
    assert profile["POSTGRES_PORT"] == 6000
    assert profile["POSTGRES_USER"] == "you"
    with pytest.raises(ProfileError, match=r"io_config.yaml:4: PostgreSQL.host: .*PGHOST is not set"):
        profiles(tmp_path, None).profile()["POSTGRES_HOST"]


@pytest.mark.parametrize("password", ["007", "1e5", "#1", "a: b", "~", "null", "- x"])
def test_a_password_without_quotes_stays_what_it_is(tmp_path: Path, password: str) -> None:
    found = profiles(tmp_path, "default:\n  POSTGRES_PASSWORD: {{ env_var('PW') }}\n", PW=password)

    assert found.profile()["POSTGRES_PASSWORD"] == password


def test_a_profile_that_is_no_mapping_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"profile 'default' in io_config.yaml:1 must be a mapping"):
        profiles(tmp_path, "default: hello\n").profile()


def test_a_number_that_is_none_names_its_line_and_not_its_value(tmp_path: Path) -> None:
    found = profiles(tmp_path, "default:\n  A: 1\n  POSTGRES_PORT: hunter2\n").profile()

    assert found.number("NOPE", 7) == 7
    with pytest.raises(
        ProfileError, match=r"^profile 'default', io_config.yaml:3: POSTGRES_PORT must be a n"
    ):
        found.number("POSTGRES_PORT", 5432)


def test_value_cannot_change_the_structure_of_the_file(tmp_path: Path) -> None:
    found = profiles(tmp_path, PGHOST='x"\nadmin: true\n').profile()

    assert found["POSTGRES_HOST"] == 'x"\nadmin: true\n'
    assert "admin" not in found


def test_missing_key_says_where_to_add_it(tmp_path: Path) -> None:
    profile = profiles(tmp_path, PGHOST="db").profile("dev")

    with pytest.raises(ProfileError) as failed:
        profile.require("POSTGRES_HOTS")
    assert "profile 'dev' in io_config.yaml:12 lacks POSTGRES_HOTS" in str(failed.value)
    assert "did you mean 'POSTGRES_HOST'?" in str(failed.value)
    with pytest.raises(ProfileError, match="lacks EMPTY"):
        profile.require("EMPTY")


def test_missing_profile_and_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"the project has no io_config.yaml"):
        profiles(tmp_path, None).profile()
    with pytest.raises(ProfileError, match=r"no profile 'defalt' .*default, dev.*did you mean 'default'"):
        profiles(tmp_path).profile("defalt")


def test_broken_file_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"io_config.yaml:2: bad YAML"):
        profiles(tmp_path, "default:\n\tA: 1\n").profile()


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    found = profiles(tmp_path, "default: {A: 1}\n")
    assert found.profile()["A"] == 1

    (tmp_path / "io_config.yaml").write_text("default: {A: 2}\n")

    assert found.profile()["A"] == 2


def test_file_with_statements_is_rendered_as_a_whole(tmp_path: Path) -> None:
    text = "default:\n{% if env_var('STAGE') == 'x' %}\n  A: 1\n{% else %}\n  A: 2\n{% endif %}\n"

    assert profiles(tmp_path, text, STAGE="x").profile()["A"] == 1


def test_values_stay_out_of_representations(tmp_path: Path) -> None:
    found = profiles(tmp_path, "default: {PASSWORD: topsecret}\n").profile()

    assert "topsecret" not in f"{found!r} {found}"


def test_check_names_profiles_and_faults_without_looking_anything_up() -> None:
    findings = Findings("io_config.yaml")

    assert check_profiles(CONFIG + "bad:\n  A: \"{{ env_var('X' }}\"\n", findings) == (
        "default",
        "dev",
        "bad",
    )
    assert [problem.line for problem in findings.problems] == [16]

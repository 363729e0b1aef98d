"""Every setting of the service: read once from the environment, then handed in as one frozen value."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.errors import SettingsError
from service.project_folders import hint_of, is_project

PREFIX = "MILLRACE_"
_SECRET_PREFIX = "MILLRACE_SECRET_"  # noqa: S105 - the name of a name
_ALL_INTERFACES = ("", "0.0.0.0", "::")  # noqa: S104 - recognised here in order to be refused

Days = Annotated[float, Field(gt=0)]


def _processors() -> int:
    """Return how many processors this process may use, which in a container is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_share(values: dict[str, Any]) -> int:
    """Return three quarters of the machine's memory, shared by the slots, in MB."""
    megabytes = psutil.virtual_memory().total // (1024 * 1024)
    return max(256, int(megabytes * 0.75) // max(1, int(values.get("slots", 1))))


def _default_home(values: dict[str, Any]) -> Path:
    projects = values.get("project") or (Path.cwd(),)
    return Path(projects[0]) / ".millrace"


def _default_database(values: dict[str, Any]) -> str:
    return f"sqlite:///{values['home'] / 'millrace.db'}" if "home" in values else ""


def _default_checkpoints(values: dict[str, Any]) -> Path:
    return Path(values["home"]) / "checkpoints" if "home" in values else Path()


class Settings(BaseSettings):
    """What an operator may choose. Each field is the environment variable `MILLRACE_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    # where things are
    project: Annotated[tuple[Path, ...], NoDecode] = Field(
        default_factory=lambda: (Path.cwd(),),
        description="Project folders, separated as in PATH. The first is the default project.",
        json_schema_extra={"shown_default": "the current folder"},
    )
    home: Path = Field(
        default_factory=_default_home,
        description="Folder for the service's own state: database, checkpoints, secrets, wake-up sockets.",
        json_schema_extra={"shown_default": "`.millrace` in the first project"},
    )
    database_url: str = Field(
        default_factory=_default_database,
        repr=False,  # it may hold a password
        description="Where events and runs are stored: `sqlite:///path` or `postgresql://user@host/name`.",
        json_schema_extra={"shown_default": "`millrace.db` in MILLRACE_HOME"},
    )
    checkpoints: Path = Field(
        default_factory=_default_checkpoints,
        description="Folder for the outputs of finished blocks. All engines of one database must share it.",
        json_schema_extra={"shown_default": "`checkpoints` in MILLRACE_HOME"},
    )

    # the web process
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Beyond the loopback interface only with MILLRACE_API_TOKEN.",
    )
    port: int = Field(default=6789, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    api_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Bearer token that API and page ask for; at least 16 characters.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Further `Host` names that API and page answer to, separated by commas.",
        json_schema_extra={"shown_default": "none; loopback names and MILLRACE_HOST are always known"},
    )
    web_processes: int = Field(default=1, ge=1, le=64, description="Web processes that accept requests.")
    web_threads: int = Field(default=16, ge=2, le=512, description="Threads in each web process.")
    wait_limit: int = Field(
        default=8, ge=0, description="Requests with `?wait=` that may wait at once in a web process."
    )
    wait_seconds: float = Field(default=60, ge=0, description="Longest time that `?wait=` may ask for.")
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="Largest webhook body, unless its trigger says otherwise."
    )

    # the engine
    executor: Literal["process"] = Field(
        default="process", description="Where runs are executed: `process`, warm processes of this machine."
    )
    slots: int = Field(
        default_factory=_processors,
        ge=1,
        le=256,
        description="Runs that one engine executes at once, each in a worker process of its own.",
        json_schema_extra={"shown_default": "the number of processors"},
    )
    block_memory_mb: int = Field(
        default_factory=_memory_share,
        ge=64,
        description="Memory a worker process may use, in MB, unless the block says otherwise.",
        json_schema_extra={"shown_default": "75 % of the machine's memory, divided by the slots"},
    )
    runs_per_process: int = Field(
        default=1000, ge=1, description="Runs after which a worker process is replaced by a fresh one."
    )
    lease_seconds: float = Field(
        default=15, gt=0, description="How long a claim on a run holds without being renewed."
    )
    renew_seconds: float = Field(default=5, gt=0, description="How often an engine renews its claims.")
    poll_seconds: float = Field(
        default=1, gt=0, description="How often an engine looks for work when no wake-up came."
    )
    refresh_seconds: float = Field(
        default=1, gt=0, description="How often the files of the projects are looked at for changes."
    )
    max_hops: int = Field(
        default=10,
        ge=0,
        description="Runs that may start one another in a chain of events; a longer chain is stopped.",
    )
    drain_seconds: float = Field(
        default=10, ge=0, description="How long running blocks and requests may take to end at a stop."
    )

    # caps and retention
    block_log_characters: int = Field(
        default=2_000_000,
        ge=1000,
        description="Characters of log kept of one block run; the rest is counted.",
    )
    log_line_characters: int = Field(
        default=16_000, ge=250, le=100_000, description="Characters of a log line; longer ones are cut."
    )
    run_log_lines: int = Field(default=50_000, ge=100, description="Log lines kept of one run.")
    payload_days: Days = Field(default=30, description="Days after which the data of an event is deleted.")
    event_days: Days = Field(
        default=365, description="Days after which an event is deleted; a hash of its key stays for ever."
    )
    delivery_days: Days = Field(default=30, description="Days after which records of deliveries are deleted.")
    run_days: Days = Field(default=365, description="Days after which finished runs are deleted.")
    log_days: Days = Field(default=30, description="Days after which the log lines of runs are deleted.")
    checkpoint_days: Days = Field(
        default=7, description="Days after which the checkpoints of finished runs are deleted."
    )
    checkpoint_gb: float = Field(
        default=20,
        gt=0,
        description="Disk space for checkpoints in GB; beyond it those of the oldest finished runs go early.",
    )
    refused_limit: int = Field(
        default=10_000, ge=0, description="Refused deliveries that are remembered; the oldest go first."
    )
    prune_seconds: float = Field(
        default=60, gt=0, description="How often the engine deletes what is too old."
    )

    # how it speaks, and what tests need
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity of the service's own log lines."
    )
    log_format: Literal["auto", "human", "json"] = Field(
        default="auto", description="Form of log lines: `auto` is human on a terminal and JSON otherwise."
    )
    crash_at: str | None = Field(
        default=None, description="For tests: the named point at which a process kills itself."
    )

    @field_validator("project", mode="before")
    @classmethod
    def _split_projects(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @field_validator("project", mode="after")
    @classmethod
    def _resolve_projects(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            raise ValueError("names no project folder")
        return tuple(path.expanduser().resolve() for path in value)

    @field_validator("home", "checkpoints", mode="after")
    @classmethod
    def _resolve_folder(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _renew_before_lapse(self) -> Settings:
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError(
                "MILLRACE_RENEW_SECONDS must be at most half of MILLRACE_LEASE_SECONDS, "
                "or one late renewal would lose the claim"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """True when only programs on this machine can reach `host`."""
        if self.host in _ALL_INTERFACES:
            return False
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def require_safe_address(self) -> None:
        """Raise SettingsError when the service would be open to others without a token."""
        if self.is_loopback or self.api_token is not None:
            return
        raise SettingsError(
            f"refusing to listen on {self.host or 'all interfaces'}: whoever reaches it could start and "
            "cancel runs without a token. Set MILLRACE_API_TOKEN to a long random text (python3 -c "
            '"import secrets; print(secrets.token_urlsafe(32))"), or listen on 127.0.0.1.'
        )


def load_settings(**chosen: Any) -> Settings:
    """Read the environment; what is `chosen` (and not None) wins. Raises SettingsError with every problem."""
    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [
            _sentence(item["loc"], item["msg"])
            for item in error.errors(include_input=False)
            # A default that could not be computed because of another value is no problem of its own.
            if item["type"] != "default_factory_not_called"
        ]
        raise SettingsError("; ".join(problems)) from None  # the cause shows values, which may be secret


def require_folder(project: Path) -> None:
    """Raise SettingsError when there is no such project folder."""
    if not project.is_dir():
        raise SettingsError(f"there is no project folder {project}; name one by --project")


def require_project(folder: Path) -> None:
    """Raise SettingsError when the folder is there but holds no project."""
    require_folder(folder)
    if not is_project(folder):
        raise SettingsError(
            f"{folder} is no project: it has neither metadata.yaml nor a folder pipelines{hint_of(folder)}. "
            "Go into a project, name one by --project, or make one: millrace init NAME"
        )


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names in `environ` that look like settings and are none: most likely misspelt."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(
        name
        for name in environ
        if name.startswith(PREFIX) and not name.startswith(_SECRET_PREFIX) and name not in known
    )


def document(fields: Iterable[str] = Settings.model_fields) -> str:
    """Return docs/settings.md: every setting with its default and what it is for."""
    lines = [
        "# Settings",
        "",
        "Millrace reads these environment variables once, at start. Options of the command line win.",
        "This page is written by `python -m service.settings > docs/settings.md`.",
        "",
        "| variable | default | what it is for |",
        "| --- | --- | --- |",
    ]
    lines += [_row(name) for name in fields]
    lines += [
        "",
        "A secret that a project asks for by `secret('name')` is read from `MILLRACE_SECRET_NAME`, "
        "or from the file `secrets/name` in MILLRACE_HOME, whose change counts without a restart.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    shown = extra.get("shown_default") or ("none" if field.default is None else f"`{field.default}`")
    return f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |"


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    text = re.sub(r"^Value error, ", "", message)
    text = re.sub(r"at least (\d+) items? after validation, not \d+", r"at least \1 characters", text)
    if not location:
        return text
    return f"{PREFIX}{str(location[0]).upper()}: {text[:1].lower()}{text[1:]}"


if __name__ == "__main__":
    import sys

    sys.stdout.write(document())

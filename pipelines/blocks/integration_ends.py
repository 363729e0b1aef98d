"""The two ends of a data integration block, as dlt's own: sources and destinations from our settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.blocks.integration_settings import Hints, IntegrationSettings
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError
from pipelines.io.config import Profile

_READERS = {
    "csv": "read_csv",
    "csv_duckdb": "read_csv_duckdb",
    "jsonl": "read_jsonl",
    "parquet": "read_parquet",
}


# Sources that are told of the cursor when they are made.
_OWN_INCREMENTAL = ("rest_api", "filesystem")


def source_of(context: BlockContext, dlt: Any, settings: IntegrationSettings) -> Any:
    """Return the source that the YAML describes."""
    given = {key: value for key, value in settings.source.items() if key != "type"}
    make = {"rest_api": _rest_api, "sql_database": _sql_database, "filesystem": _filesystem}
    try:
        return make[settings.source["type"]](context, given, settings)
    except TypeError as error:
        raise BlockCodeError(f"{context.block.path}: source: {error}") from error


def hinted(context: BlockContext, dlt: Any, source: Any, settings: IntegrationSettings) -> Any:
    """Return the source with the chosen resources only, each with the hints that concern it."""
    unknown = [name for name in settings.resources if name not in source.resources]
    if unknown:
        there = ", ".join(source.resources)
        raise BlockCodeError(
            f"{context.block.path}: the source has no resource {unknown[0]!r}; it has {there}"
        )
    if settings.resources:
        source = source.with_resources(*settings.resources)
    for name, resource in source.selected_resources.items():
        wanted = _hints_of(settings, name)
        hints = {
            "write_disposition": wanted.write_disposition,
            "primary_key": wanted.primary_key,
            "incremental": None,
        }
        if wanted.incremental and settings.source.get("type") not in _OWN_INCREMENTAL:
            hints["incremental"] = _incremental(dlt, wanted.incremental)
        resource.apply_hints(**{hint: value for hint, value in hints.items() if value is not None})
    return source


def _hints_of(settings: IntegrationSettings, name: str) -> Hints:
    own, shared = settings.resources.get(name, Hints()), settings.hints
    return Hints(
        own.write_disposition or shared.write_disposition,
        own.primary_key or shared.primary_key,
        own.incremental or shared.incremental,
    )


def _incremental(dlt: Any, given: Mapping[str, Any]) -> Any:
    return dlt.sources.incremental(given["cursor"], initial_value=given.get("initial"))


# --- sources -----------------------------------------------------------------------------------------------


def _rest_api(context: BlockContext, given: dict[str, Any], settings: IntegrationSettings) -> Any:
    from dlt.sources.rest_api import rest_api_source

    resources = [_with_incremental(resource, settings) for resource in given.get("resources") or []]
    config: Any = {**given, "resources": resources}
    return rest_api_source(config, name="rest_api")


def _with_incremental(resource: Any, settings: IntegrationSettings) -> Any:
    """Tell a resource of a REST API its cursor, and the parameter that asks for what is newer."""
    declared = {"name": resource, "endpoint": resource} if isinstance(resource, str) else dict(resource)
    wanted = _hints_of(settings, str(declared.get("name"))).incremental
    if not wanted:
        return resource
    endpoint: Any = declared.get("endpoint") or declared.get("name")
    endpoint = {"path": endpoint} if isinstance(endpoint, str) else dict(endpoint)
    told = {"cursor_path": wanted["cursor"], "initial_value": wanted.get("initial")}
    if wanted.get("param"):
        told["start_param"] = wanted["param"]
    return {**declared, "endpoint": {"incremental": told, **endpoint}}


def _sql_database(context: BlockContext, given: dict[str, Any], settings: IntegrationSettings) -> Any:
    from dlt.sources.sql_database import sql_database

    if "credentials" not in given:
        profile = context.profiles.profile(str(given.pop("profile", "default")))
        given["credentials"] = _database_url(profile)
    if "tables" in given:
        given["table_names"] = given.pop("tables")
    return sql_database(**{"schema": None, "table_names": None, **given})


def _filesystem(context: BlockContext, given: dict[str, Any], settings: IntegrationSettings) -> Any:
    from dlt.sources import filesystem

    form = str(given.pop("format", "csv"))
    if form not in _READERS:
        raise BlockCodeError(
            f"{context.block.path}: the `format` of `source` is {form!r}; it may be {', '.join(_READERS)}"
        )
    table, pattern = given.pop("table", None), given.pop("pattern", "*")
    reader_options = given.pop("options", {})
    path = str(given.pop("path", ""))
    if "://" not in path and not (context.root / path).is_dir():
        raise BlockCodeError(
            f"{context.block.path}: there is no folder {path!r} in the project, the `path` of `source`; "
            f"make it, or name the folder with the files"
        )
    files = filesystem.filesystem(_bucket(context, path), file_glob=pattern, **given)
    if settings.hints.incremental:
        # Of files: those that are new since the last time, by when they were changed.
        files.apply_hints(incremental=_incremental(_dlt(), settings.hints.incremental))
    rows = files | getattr(filesystem, _READERS[form])(**reader_options)
    named = rows.with_name(str(table or context.block.name))
    return _dlt().source(lambda: named, name="filesystem", section="filesystem")()


def _bucket(context: BlockContext, path: str) -> str:
    return path if "://" in path else (context.root / path).resolve().as_uri()


def _dlt() -> Any:
    import dlt

    return dlt


def _database_url(profile: Profile) -> str:
    """Return the address of the database of a profile, as SQLAlchemy has it."""
    if profile.get("POSTGRES_HOST") is not None:
        return _url("postgresql+psycopg2", profile, "POSTGRES", 5432)
    if profile.get("MYSQL_HOST") is not None:
        return _url("mysql+pymysql", profile, "MYSQL", 3306)
    if profile.get("SQLITE_DATABASE") is not None:
        return f"sqlite:///{profile.root / str(profile['SQLITE_DATABASE'])}"
    raise BlockCodeError(
        f"profile {profile.name!r} has no settings of Postgres, MySQL or SQLite; name the database by "
        f"`credentials` of `source`, as a URL of SQLAlchemy"
    )


def _url(driver: str, profile: Profile, system: str, port: int) -> str:
    from sqlalchemy import URL  # only here, so that no other run waits for it

    host = str(profile.require(f"{system}_HOST"))
    database = profile.get("MYSQL_DATABASE") if system == "MYSQL" else profile.require("POSTGRES_DBNAME")
    is_socket = host.startswith("/")  # psycopg2 takes a folder with a socket in the query
    url = URL.create(
        driver,
        username=str(profile.require(f"{system}_USER")),
        password=str(profile.get(f"{system}_PASSWORD") or "") or None,
        host=None if is_socket else host,
        port=None if is_socket else int(profile.number(f"{system}_PORT", port)),
        database=str(database),
        query={"host": host} if is_socket else {},
    )
    return url.render_as_string(hide_password=False)


# --- destinations ------------------------------------------------------------------------------------------


def destination_of(context: BlockContext, dlt: Any, settings: IntegrationSettings) -> Any:
    """Return dlt's destination for a profile."""
    kinds = dlt.destinations
    if settings.kind == "filesystem":
        return kinds.filesystem(_bucket(context, settings.path or "data"))
    profile = context.profiles.profile(settings.profile)
    if settings.kind == "duckdb":
        return kinds.duckdb(str(profile.root / str(profile.require("DUCKDB_DATABASE"))))
    if settings.kind == "postgres":
        return kinds.postgres(_postgres(profile))
    return kinds.bigquery(_google(profile))


def _postgres(profile: Profile) -> Any:
    from dlt.destinations.impl.postgres.configuration import PostgresCredentials

    credentials = PostgresCredentials()
    for name, value in {
        "host": str(profile.require("POSTGRES_HOST")),
        "port": int(profile.number("POSTGRES_PORT", 5432)),
        "database": str(profile.require("POSTGRES_DBNAME")),
        "username": str(profile.require("POSTGRES_USER")),
        "password": str(profile.get("POSTGRES_PASSWORD") or ""),
    }.items():
        setattr(credentials, name, value)
    if credentials.host.startswith("/"):
        # A folder with a socket has no place in a URL but its query, where it wins over the host.
        credentials.query, credentials.host = {"host": credentials.host}, "localhost"
    return credentials


def _google(profile: Profile) -> Any:
    """Return a service account's key; None asks for the credentials of the machine."""
    key = profile.get("GOOGLE_SERVICE_ACC_KEY")
    if isinstance(key, Mapping):
        return json.dumps(dict(key))
    file = profile.get("GOOGLE_SERVICE_ACC_KEY_FILEPATH")
    return (profile.root / Path(str(file)).expanduser()).read_text("utf-8") if file else None

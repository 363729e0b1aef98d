"""The profiles of `io_config.yaml`: named connection settings, each value rendered when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.errors import MillraceError
from pipelines.mage.importing import places_of
from pipelines.parse_fields import Findings, closest, listed, read_document
from pipelines.parse_templated import has_statements, read_templated
from pipelines.parse_yaml import Document, YamlFault, read_yaml
from pipelines.parse_yaml import Path as YamlPath
from pipelines.secrets import SecretMissing, Secrets
from pipelines.templating import TemplateError, expression, file_functions, is_template, render_file

PROFILES_FILE = "io_config.yaml"
DEFAULT_PROFILE = "default"

# The older form of Mage's profiles has one mapping for each system; ours are the names of the newer form.
_NESTED: Mapping[str, Mapping[str, str]] = {
    "AWS": {
        "access_key_id": "AWS_ACCESS_KEY_ID",
        "secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "session_token": "AWS_SESSION_TOKEN",
        "region": "AWS_REGION",
    },
    "BigQuery": {
        "credentials_mapping": "GOOGLE_SERVICE_ACC_KEY",
        "path_to_credentials": "GOOGLE_SERVICE_ACC_KEY_FILEPATH",
        "location": "GOOGLE_LOCATION",
    },
    "DuckDB": {"database": "DUCKDB_DATABASE", "schema": "DUCKDB_SCHEMA"},
    "GoogleCloudStorage": {
        "credentials_mapping": "GOOGLE_SERVICE_ACC_KEY",
        "path_to_credentials": "GOOGLE_SERVICE_ACC_KEY_FILEPATH",
    },
    "MySQL": {
        "database": "MYSQL_DATABASE",
        "host": "MYSQL_HOST",
        "password": "MYSQL_PASSWORD",
        "port": "MYSQL_PORT",
        "user": "MYSQL_USER",
    },
    "PostgreSQL": {
        "database": "POSTGRES_DBNAME",
        "host": "POSTGRES_HOST",
        "password": "POSTGRES_PASSWORD",
        "port": "POSTGRES_PORT",
        "schema": "POSTGRES_SCHEMA",
        "user": "POSTGRES_USER",
    },
    "Redshift": {
        "database": "REDSHIFT_DBNAME",
        "host": "REDSHIFT_HOST",
        "password": "REDSHIFT_TEMP_CRED_PASSWORD",
        "port": "REDSHIFT_PORT",
        "user": "REDSHIFT_TEMP_CRED_USER",
    },
    "Snowflake": {
        "account": "SNOWFLAKE_ACCOUNT",
        "default_db": "SNOWFLAKE_DEFAULT_DB",
        "default_schema": "SNOWFLAKE_DEFAULT_SCHEMA",
        "default_warehouse": "SNOWFLAKE_DEFAULT_WH",
        "password": "SNOWFLAKE_PASSWORD",
        "user": "SNOWFLAKE_USER",
    },
}

_NOT_PROFILES = frozenset(("version",))  # Mage writes the version of the format beside the profiles


class ProfileError(MillraceError):
    """A profile, or a value of it, that is not there or cannot be rendered. Never holds a value."""


class Profile(Mapping[str, Any]):
    """One profile. Its values are rendered one by one, so that an unset variable harms only who needs it."""

    def __init__(
        self,
        name: str,
        document: Document,
        *,
        root: Path,
        functions: Mapping[str, Any],
        line: int = 1,
        file: str = PROFILES_FILE,
    ) -> None:
        self.name = name
        self.file = file
        self.root = root  # of the project; relative paths in values lie in it
        self._line = line
        self._document = document
        self._values: dict[str, Any] = {}
        self._paths: dict[str, YamlPath] = {}  # where each value stands, within the profile
        self._read((document.value or {}).get(name) or {})
        self._functions = functions

    @classmethod
    def of_values(cls, values: Mapping[str, Any], *, root: Path, name: str = "(given)") -> Profile:
        """Make a profile of settings that no file holds."""
        return cls(name, Document({name: dict(values)}), root=root, functions={})

    def __repr__(self) -> str:
        return f"Profile({self.name!r}, keys={sorted(self._values)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __getitem__(self, key: str) -> Any:
        """Return the rendered value. Raises KeyError, and ProfileError when it cannot be rendered."""
        return self._rendered(self._values[key], (self.name, *self._paths[key]))

    def number(self, key: str, default: float) -> float:
        """Return a value that must be a number. Raises ProfileError."""
        value = self[key] if key in self._values else None
        if value is None or value == "":
            return default
        try:
            return float(value)
        except (TypeError, ValueError):
            where = f"{self.file}:{self._document.line((self.name, *self._paths[key]))}"
            raise ProfileError(f"profile '{self.name}', {where}: {key} must be a number") from None

    def require(self, key: str) -> Any:
        """Return a value that must be there and not be empty. Raises ProfileError, which says what to add."""
        value = self[key] if key in self._values else None
        if value is None or value == "":
            hint = closest(key, self._values)
            raise ProfileError(
                f"profile '{self.name}' in {self.file}:{self._line} lacks {key}; "
                f"add it under '{self.name}:'{hint}"
            )
        return value

    def _read(self, given: Mapping[str, Any]) -> None:
        for system, keys in _NESTED.items():
            settings = given.get(system)
            for part, value in settings.items() if isinstance(settings, Mapping) else ():
                if key := keys.get(part):
                    self._values[key], self._paths[key] = value, (system, part)
        for key, value in given.items():
            self._values[key], self._paths[key] = value, (key,)

    def _rendered(self, value: Any, path: YamlPath) -> Any:
        if isinstance(value, Mapping):
            return {key: self._rendered(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._rendered(item, (*path, index)) for index, item in enumerate(value)]
        if not is_template(value):
            return self._located(value)
        try:
            rendered = expression(value).evaluate_with(self._functions)
        except TemplateError as error:
            where = f"{self.file}:{self._document.line(path)}"
            raise ProfileError(
                f"profile '{self.name}', {where}: {'.'.join(map(str, path[1:]))}: {error}"
            ) from error
        rendered = self._located(rendered)
        return self._as_yaml(rendered) if path in self._document.plain else rendered

    def _located(self, value: Any) -> Any:
        return places_of(self.root).located(value) if isinstance(value, str) else value

    def _as_yaml(self, rendered: Any) -> Any:
        """Return what a value without quotes means: `PORT: {{ env_var('PORT') }}` is a number, as in Mage.

        What would not be the same when written out again stays text: the password `007` or `#1: me` is one.
        """
        if not isinstance(rendered, str):
            return rendered
        try:
            value = read_yaml(rendered).value
        except YamlFault:
            return rendered
        is_same = rendered.startswith(("{", "[")) or isinstance(value, bool) or str(value) == rendered
        return value if is_same else rendered


class Profiles:
    """The profiles of one project. The file is read when it is first needed, and again when it changed."""

    def __init__(
        self, root: Path, *, environ: Mapping[str, str], secrets: Secrets, file: Path | None = None
    ) -> None:
        self._root = root
        self._environ = environ
        self._secrets = secrets
        self._path = file or root / PROFILES_FILE
        self._functions = file_functions(environ, secrets)
        self._read: tuple[str, Document] | None = None

    def of_file(self, file: Path) -> Profiles:
        """Return the profiles of another file, rendered as those of this one."""
        return Profiles(self._root, environ=self._environ, secrets=self._secrets, file=file)

    @property
    def _file(self) -> str:
        """The file's name for messages, without the folder it lies in where that is the project's."""
        path = self._path
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)

    @property
    def functions(self) -> Mapping[str, Any]:
        """What templates of this project may call: `env_var`, `secret`, ...; SQL blocks use them as well."""
        return self._functions

    def profile(self, name: str = DEFAULT_PROFILE) -> Profile:
        """Return a profile. Raises ProfileError when the file or the profile is not there, or is no YAML."""
        document = self._document()
        known = _profile_names(document)
        if name not in known:
            there = f"it has: {listed(known)}" if known else "it has no profiles"
            raise ProfileError(
                f"there is no profile '{name}' in {self._file} ({there}){closest(name, known)}"
            )
        if not isinstance(document.value[name], Mapping | None):
            raise ProfileError(
                f"profile '{name}' in {self._file}:{document.line((name,))} must be a mapping of settings"
            )
        return Profile(
            name,
            document,
            root=self._root,
            functions=self._functions,
            line=document.line((name,)),
            file=self._file,
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all profiles; none when there is no file."""
        return _profile_names(self._document()) if self._path.exists() else ()

    def _document(self) -> Document:
        text = self._text()
        if self._read is None or self._read[0] != text:
            self._read = (text, self._parsed(text))
        return self._read[1]

    def _text(self) -> str:
        try:
            return self._path.read_text("utf-8-sig")
        except FileNotFoundError:
            raise ProfileError(
                f"the project has no {self._file}; write one with a profile 'default:'"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(f"{self._file} cannot be read: {error}") from error

    def _parsed(self, text: str) -> Document:
        try:
            if has_statements(text):
                return read_yaml(render_file(text, file=self._file, functions=self._functions))
            return _read_templated(text)
        except YamlFault as fault:
            raise ProfileError(f"{self._file}:{fault.line}: {fault.message}") from None
        except (TemplateError, SecretMissing) as error:
            raise ProfileError(str(error)) from error


@lru_cache(maxsize=64)
def _read_templated(text: str) -> Document:
    """Read the file once in a process, and not for each of its runs."""
    return read_templated(text)


def check_profiles(text: str, findings: Findings) -> tuple[str, ...]:
    """Return the names of the profiles in `text`. What is wrong with it goes to `findings`.

    Variables and secrets are not looked up: what is set here says nothing of where the service runs.
    """
    if has_statements(text):
        return ()
    document = read_document(text, findings, read_templated)
    if document is None:
        return ()
    if not isinstance(document.value, Mapping):
        if document.value is not None:
            findings.error(1, "the file must be a mapping of profiles, such as 'default:'")
        return ()
    names = _profile_names(document)
    for name in names:
        profile = document.value[name]
        if profile is not None and not isinstance(profile, Mapping):
            findings.error(document.line((name,)), f"profile '{name}' must be a mapping of settings")
        _check_templates(profile, (name,), document, findings)
    return names


def _check_templates(value: Any, path: YamlPath, document: Document, findings: Findings) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_templates(item, (*path, key), document, findings)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_templates(item, (*path, index), document, findings)
    elif is_template(value):
        try:
            expression(value)
        except TemplateError as error:
            findings.error(document.line(path), f"profile '{path[0]}', {path[-1]}: {error.message}")


def _profile_names(document: Document) -> tuple[str, ...]:
    if not isinstance(document.value, Mapping):
        return ()
    return tuple(name for name in document.value if name not in _NOT_PROFILES)

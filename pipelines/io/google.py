"""What the connectors of Google's services share: who they are, where they ask, and what their errors say."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions
from google.auth import default as default_credentials
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.oauth2 import service_account
from requests.exceptions import RequestException

from pipelines.io.errors import AccessRefused, ConnectionFailed, ConnectorError

if TYPE_CHECKING:
    from pipelines.io.config import Profile

KEY = "GOOGLE_SERVICE_ACC_KEY"
KEY_FILE = "GOOGLE_SERVICE_ACC_KEY_FILEPATH"
PROJECT = "GOOGLE_PROJECT_ID"

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LOGIN = "run `gcloud auth application-default login`"

# What Mage's `io_config.yaml` says before anybody filled it in.
_SAMPLE_FILE = "/path/to/your/service/account/key.json"
_SAMPLE_WORDS = ("your_private_key", "your_service_account_email")


@dataclass(frozen=True)
class GoogleSettings:
    """The keys of a profile that concern all of Google's services."""

    profile: str
    project: str | None
    key: Mapping[str, Any] | None  # of a service account
    key_file: Path | None
    endpoint: str | None  # another address of the service; one of http:// is an emulator

    @classmethod
    def of(cls, profile: Profile, *, endpoint_key: str, emulator_variable: str) -> GoogleSettings:
        """Read a profile. The emulator's variable is the one that Google's own clients look at."""
        file = profile.get(KEY_FILE)
        endpoint = profile.get(endpoint_key) or _emulator(emulator_variable)
        return cls(
            profile=profile.name,
            project=str(profile.get(PROJECT) or "") or None,
            key=_filled_in(profile.get(KEY)),
            key_file=None
            if not file or file == _SAMPLE_FILE
            else profile.root / Path(str(file)).expanduser(),
            endpoint=str(endpoint).rstrip("/") if endpoint else None,
        )

    @property
    def is_emulated(self) -> bool:
        return self.endpoint is not None and self.endpoint.startswith("http://")

    def credentials(self) -> tuple[Credentials, str | None]:
        """Return who we are, and the project that goes with it. An emulator sees no credentials.

        AccessRefused says which key is wrong; what the key holds is never said.
        """
        if self.is_emulated:
            return AnonymousCredentials(), self.project or self._project_of_key()  # type: ignore[no-untyped-call]
        key = self.key or self._key_of_file()
        if key is not None:
            return self._of_service_account(key), self.project or key.get("project_id")
        try:
            found, project = default_credentials(scopes=_SCOPES)
        except DefaultCredentialsError:
            raise AccessRefused(
                f"no Google credentials: profile {self.profile!r} has neither {KEY_FILE} nor {KEY}, "
                f"and the machine has no default ones; add a key, or {_LOGIN}"
            ) from None
        return found, self.project or project

    def _project_of_key(self) -> str | None:
        """Return the project that the key belongs to, where there is a key: an emulator does not need it."""
        with suppress(AccessRefused):
            key = self.key or self._key_of_file() or {}
            return key.get("project_id")
        return None

    def _key_of_file(self) -> Mapping[str, Any] | None:
        if self.key_file is None:
            return None
        try:
            key = json.loads(self.key_file.read_text())
        except OSError as error:
            raise AccessRefused(
                f"profile {self.profile!r}: the key file {self.key_file} cannot be read: {error.strerror}; "
                f"mend {KEY_FILE} in io_config.yaml"
            ) from None
        except ValueError:
            raise self._no_key() from None
        return key if isinstance(key, Mapping) else None

    def _of_service_account(self, key: Mapping[str, Any]) -> Credentials:
        try:
            made: Credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                dict(key), scopes=_SCOPES
            )
        except ValueError:  # its text could tell of the key
            raise self._no_key() from None
        return made

    def _no_key(self) -> AccessRefused:
        where = KEY if self.key else f"{KEY_FILE} {self.key_file}"
        return AccessRefused(
            f"profile {self.profile!r}: {where} is no key of a service account; "
            "make one with `gcloud iam service-accounts keys create`"
        )


def _emulator(variable: str) -> str | None:
    host = os.environ.get(variable)
    return host if not host or "://" in host else f"http://{host}"


def _filled_in(key: Any) -> Mapping[str, Any] | None:
    """Return an inline key, unless it is still the sample that Mage's projects start with."""
    if not isinstance(key, Mapping) or not key:
        return None
    words = f"{key.get('private_key')} {key.get('client_email')}"
    return None if any(sample in words for sample in _SAMPLE_WORDS) else key


@contextmanager
def told_plainly(what: str, settings: GoogleSettings) -> Iterator[None]:
    """Raise what Google's libraries raise as our own, in one sentence about `what`."""
    try:
        yield
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise AccessRefused(
            f"{what}: profile {settings.profile!r} may not do that ({said(error)}); "
            "give its account the role that is missing"
        ) from error
    except exceptions.RetryError as error:
        raise ConnectionFailed(f"{what}: no answer: {said(error.cause or error)}") from error
    except (RequestException, GoogleAuthError, exceptions.ServerError) as error:
        raise ConnectionFailed(f"{what}: no answer: {said(error)}") from error
    except exceptions.GoogleAPICallError as error:
        raise ConnectorError(f"{what}: {said(error)}") from error


def said(error: BaseException) -> str:
    """Return what the service said, in one line of bounded length, without the address it said it at."""
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    line = re.sub(r"^(DELETE|GET|PATCH|POST|PUT) \S+: ", "", text.splitlines()[0])
    return line.partition("; reason: ")[0][:500]

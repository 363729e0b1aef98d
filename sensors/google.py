"""What the sensors of Google's services share: who they are, how long they wait, and what their errors say.

Google's libraries are loaded late, inside the functions: a sensor's module is imported where no tick runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sensors.base import Options, SensorError, TickContext

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.auth.credentials import Credentials

KEY = "GOOGLE_SERVICE_ACC_KEY"
KEY_FILE = "GOOGLE_SERVICE_ACC_KEY_FILEPATH"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

READ_SECONDS = 30.0  # for one answer
TIMEOUT = (5.0, READ_SECONDS)  # to connect, and for the answer
RETRY_SECONDS = 2.0  # of one request, within a tick; the tick itself is tried again later


class Missing(SensorError):
    """What was asked for does not exist."""


class GoogleOptions(Options):
    profile: str | None = Field(
        default=None,
        description=f"profile of io_config.yaml with {KEY_FILE} or {KEY}; without it the default credentials",
    )
    endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="another address of the service; one of http:// is an emulator, and sees no credentials",
    )


def credentials_of(options: GoogleOptions, context: TickContext) -> Credentials | None:
    """Return what the options name; None leaves it to the client to find the default credentials.

    Raises SensorError.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2 import service_account

    if options.endpoint is not None and options.endpoint.startswith("http://"):
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    if options.profile is None:
        return None
    profile = context.profile(options.profile)
    key, file = profile.get(KEY), profile.get(KEY_FILE)
    try:
        if isinstance(key, Mapping):
            return _scoped(service_account.Credentials, dict(key))
        if file:
            return _scoped(service_account.Credentials, json.loads((context.root / str(file)).read_text()))
    except OSError as error:
        raise SensorError(
            f"profile '{options.profile}': the key file {file} cannot be read: {error.strerror}; "
            f"mend {KEY_FILE} in io_config.yaml"
        ) from None
    except ValueError:  # its text could tell of the key
        where = KEY if isinstance(key, Mapping) else f"{KEY_FILE} {file}"
        raise SensorError(
            f"profile '{options.profile}': {where} is no key of a service account; "
            "make one with `gcloud iam service-accounts keys create`"
        ) from None
    return None


def _scoped(kind: Any, key: Mapping[str, Any]) -> Credentials:
    credentials: Credentials = kind.from_service_account_info(key, scopes=[SCOPE])
    return credentials


def client_options(options: GoogleOptions) -> dict[str, str] | None:
    return {"api_endpoint": options.endpoint} if options.endpoint else None


def pubsub_client(kind: Any, options: GoogleOptions, context: TickContext) -> Any:
    """Return a Pub/Sub client of that class, with a connection of its own. Raises SensorError."""
    import grpc

    endpoint = options.endpoint
    if endpoint is not None and endpoint.startswith("http://"):
        channel = grpc.insecure_channel(endpoint.removeprefix("http://").rstrip("/"))
        return kind(transport=kind.get_transport_class("grpc")(channel=channel))
    host = {"api_endpoint": endpoint.removeprefix("https://").rstrip("/")} if endpoint else None
    return kind(credentials=credentials_of(options, context), client_options=host)


def briefly() -> Retry:
    """Return the retry of one request: what may pass by itself is tried again for a moment."""
    from google.api_core import exceptions, retry
    from google.auth.exceptions import TransportError
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import Timeout

    passing = retry.if_exception_type(
        exceptions.TooManyRequests, exceptions.ServerError, TransportError, Unreachable, Timeout
    )
    return retry.Retry(predicate=passing, initial=0.5, multiplier=2, timeout=RETRY_SECONDS)


@contextmanager
def told_plainly(what: str, *, missing: str, forbidden: str) -> Iterator[None]:
    """Make a SensorError, or Missing, of what Google's libraries raise.

    `what` is the thing that was asked for, `missing` and `forbidden` say what to do when it is not there and
    when it may not be read.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except exceptions.NotFound as error:
        raise Missing(f"{what} is not there ({_said(error)}); {missing}") from None
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise SensorError(f"{what} may not be read ({_said(error)}); {forbidden}") from None
    except DefaultCredentialsError:
        raise SensorError(
            f"{what} cannot be read: there are no Google credentials; name a profile with {KEY_FILE}, "
            "or run `gcloud auth application-default login`"
        ) from None
    except exceptions.RetryError as error:
        raise SensorError(f"{what} cannot be reached: {_said(error.cause or error)}") from None
    except (RequestException, GoogleAuthError) as error:
        raise SensorError(f"{what} cannot be reached: {_said(error)}") from None
    except exceptions.GoogleAPICallError as error:
        raise SensorError(f"{what} cannot be read: {_said(error)}") from None


def _said(error: BaseException) -> str:
    """Return what the service said, in one line of bounded length, without the address it said it at."""
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    return re.sub(r"^(GET|POST) \S+: ", "", text.splitlines()[0])[:300]

"""How the checks of Google's services reach them: as the sensors of the same triggers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from google.cloud import storage
from google.pubsub_v1 import PublisherClient, SubscriberClient

from pipelines.io.config import Profiles
from sensors.base import TickContext
from sensors.google import GoogleOptions, client_options, credentials_of, pubsub_client, told_plainly
from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime


def options_of(compiled: CompiledTrigger) -> GoogleOptions:
    """Return what says how to connect, out of the options of the trigger's sensor."""
    wanted = {key: compiled.options[key] for key in ("profile", "endpoint") if key in compiled.options}
    return GoogleOptions.model_validate(wanted)


def subscriber(runtime: Runtime, compiled: CompiledTrigger) -> SubscriberClient:
    client: SubscriberClient = _client(SubscriberClient, runtime, compiled)
    return client


def publisher(runtime: Runtime, compiled: CompiledTrigger) -> PublisherClient:
    client: PublisherClient = _client(PublisherClient, runtime, compiled)
    return client


@contextmanager
def bucket_client(runtime: Runtime, compiled: CompiledTrigger) -> Iterator[storage.Client]:
    options = options_of(compiled)
    with _told():
        client = storage.Client(
            project=str(compiled.options.get("project") or "millrace-doctor"),
            credentials=credentials_of(options, _context(runtime, compiled)),
            client_options=client_options(options),
        )
    try:
        yield client
    finally:
        client.close()


def _client(kind: Any, runtime: Runtime, compiled: CompiledTrigger) -> Any:
    with _told():
        return pubsub_client(kind, options_of(compiled), _context(runtime, compiled))


def _told() -> AbstractContextManager[None]:
    """Tell of missing credentials as the sensors do. Nothing is asked of the service yet."""
    return told_plainly("Google Cloud", missing="", forbidden="")


def _context(runtime: Runtime, compiled: CompiledTrigger) -> TickContext:
    root: Path = runtime.projects.get(compiled.project).root
    profiles = Profiles(root, environ=runtime.environ, secrets=runtime.secrets)
    return TickContext(source="doctor", now=runtime.clock(), root=root, profile=profiles.profile)

"""The doors for CloudEvents: one for each project that says in `metadata.yaml` who may send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.errors import MillraceError
from pipelines.model import CloudEvents
from service.intake.admission import Quota, RateError, read_rate
from service.intake.verify.base import Scheme, SchemeError
from service.intake.verify.registry import build_scheme

ROAD = "cloudevents"

Render = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class CloudDoor:
    """One project's door, ready to receive. With a `fault` it receives nothing: the sentence says why."""

    project: str
    settings: CloudEvents
    max_body_bytes: int
    scheme: Scheme | None = None
    quota: Quota = field(default_factory=Quota)
    fault: str | None = None

    @property
    def source(self) -> str:
        """The way its events come by."""
        return ROAD

    @property
    def takes_news(self) -> bool:
        """True where a sender that had to prove who it is may tell of objects and messages of others."""
        return self.scheme is not None and not self.scheme.is_open

    @property
    def per_minute(self) -> int | None:
        """How many requests a minute it lets in; None: any number."""
        rate = self.quota.rate
        return None if rate is None else max(1, rate.amount * 60 // rate.get_expiry())

    def may_ask(self, origin: str) -> bool:
        """Tell whether somebody of this name may send here."""
        return not self.settings.origins or origin.lower() in self.settings.origins


def build_cloud_door(
    project: str, settings: CloudEvents, render: Render, *, max_body_bytes: int
) -> CloudDoor | None:
    """Build the project's door; None where it wants none. `render` fills in secrets."""
    if settings.verify is None:
        return None
    closed = CloudDoor(project, settings, settings.max_body or max_body_bytes)
    try:
        scheme = build_scheme(render(settings.verify))
        quota = Quota(read_rate(settings.rate)) if settings.rate else Quota()
    except (MillraceError, SchemeError, RateError) as error:
        return replace(closed, fault=f"`cloudevents` of {project!r} cannot work: {error}")
    return replace(closed, scheme=scheme, quota=quota)

"""The doors for webhooks: each an address, a scheme that guards it, and the trigger behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sensors.payloads import Format
from service.intake.admission import Quota, RateError, read_rate
from service.intake.verify.base import Scheme, SchemeError
from service.intake.verify.guarded import guarded
from service.intake.verify.registry import build_scheme
from service.matching.triggers import CompiledTrigger

ADDRESS_PREFIX = "/webhooks/"
PUSH_PREFIX = "/pubsub/"
PUSH_FORMAT = "pubsub"  # the `format` of a webhook that takes what Pub/Sub pushes

TokenOf = Callable[[CompiledTrigger], str]


@dataclass(frozen=True, slots=True)
class Door:
    """One webhook trigger, ready to receive. With a `fault` it receives nothing: the sentence says why."""

    compiled: CompiledTrigger
    address: str
    scheme: Scheme | None
    max_body_bytes: int
    form: Format = Format.AUTO
    quota: Quota = field(default_factory=Quota)
    is_keyed_by_body: bool = False
    is_push: bool = False  # it takes Pub/Sub messages
    fault: str | None = None

    @property
    def takes_news(self) -> bool:
        """True where news of an object in a body is taken for that object's event, whoever else tells of it.

        Only of senders that had to prove who they are, and where nothing in the trigger speaks against it.
        """
        is_plain = self.form is Format.AUTO and self.compiled.key is None and not self.is_keyed_by_body
        return is_plain and not self.compiled.trigger.mage and not self.is_open

    @property
    def is_open(self) -> bool:
        """True where senders prove nothing: what they say of other roads is not believed."""
        return self.scheme is None or self.scheme.is_open

    @property
    def source(self) -> str:
        """The source of its events, within which keys are unique."""
        return f"webhook:{self.compiled.pipeline.name}/{self.compiled.name}"


class DoorError(ValueError):
    """A webhook trigger's own keys do not make a door. One sentence."""


def build_door(compiled: CompiledTrigger, *, token_of: TokenOf, max_body_bytes: int) -> Door:
    """Build the trigger's door. `token_of` gives the token of one that has no `verify`."""
    address = _address(compiled)
    if compiled.fault is not None:
        return Door(compiled, address, None, max_body_bytes, fault=compiled.fault)
    spec = compiled.trigger.spec
    try:
        check_path(spec)
        return Door(
            compiled,
            address,
            guarded(_scheme(compiled, token_of), spec),
            max_body_bytes=_count(spec, "max_body") or max_body_bytes,
            form=read_format(spec.get("format")),
            quota=Quota(
                read_rate(str(spec["rate"])) if spec.get("rate") else None, _count(spec, "queue_limit")
            ),
            is_keyed_by_body=spec.get("body_key") is True,
            is_push=is_push(spec),
        )
    except (SchemeError, RateError, DoorError) as error:
        fault = f"webhook {compiled.name!r} of {compiled.pipeline.name!r} cannot work: {error}"
        return Door(compiled, address, None, max_body_bytes, fault=fault)


def token_digest(token: str) -> bytes:
    """Return what tokens are looked up by, so that the time of a look-up tells nothing about them."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def own_token(compiled: CompiledTrigger, token_of: TokenOf) -> str:
    """Return the token that Mage's addresses of this trigger carry: its own in the YAML, else ours."""
    verify = compiled.verify
    given = verify.get("secret") if isinstance(verify, Mapping) else None
    return given if isinstance(given, str) and given else token_of(compiled)


def _scheme(compiled: CompiledTrigger, token_of: TokenOf) -> Scheme:
    verify = compiled.verify
    if verify is None or (compiled.trigger.mage and not isinstance(verify, str)):
        return build_scheme({"scheme": "token", "secret": own_token(compiled, token_of)})
    return build_scheme(verify)


def _address(compiled: CompiledTrigger) -> str:
    prefix = PUSH_PREFIX if is_push(compiled.trigger.spec) else ADDRESS_PREFIX
    given = compiled.trigger.spec.get("path")
    return str(given) if given else f"{prefix}{compiled.pipeline.name}/{compiled.name}"


def is_push(spec: Mapping[str, Any]) -> bool:
    """Tell whether a webhook trigger takes what Pub/Sub pushes."""
    return spec.get("format") == PUSH_FORMAT


def check_path(spec: Mapping[str, Any]) -> None:
    """Raises DoorError for a `path` that the trigger may not have."""
    path = spec.get("path")
    if path is None:
        return
    if is_push(spec):
        raise DoorError(
            f"`path` is not for `format: {PUSH_FORMAT}`; it is at {PUSH_PREFIX}<pipeline>/<trigger>"
        )
    if not str(path).startswith(ADDRESS_PREFIX) or path == ADDRESS_PREFIX:
        raise DoorError(f"`path` must be below {ADDRESS_PREFIX}, not {path!r}")


def read_format(value: Any) -> Format:
    """Return how to read bodies. Raises DoorError."""
    try:
        return Format.AUTO if value in (None, "", PUSH_FORMAT) else Format(value)
    except ValueError:
        known = ", ".join([*Format, PUSH_FORMAT])
        raise DoorError(f"`format` must be one of {known}, not {value!r}") from None


def _count(spec: Mapping[str, Any], name: str) -> int | None:
    value = spec.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DoorError(f"`{name}` must be a whole number above 0, not {value!r}")
    return value

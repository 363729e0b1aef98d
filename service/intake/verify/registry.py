"""Builds the scheme that a trigger's `verify` asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from service.intake.verify.base import Scheme, SchemeError
from service.intake.verify.basic import Basic
from service.intake.verify.gitlab import GitLab
from service.intake.verify.google_oidc import GoogleOidc
from service.intake.verify.guarded import guarded
from service.intake.verify.keyed_hash import KeyedHash
from service.intake.verify.presets import github, shopify, stripe
from service.intake.verify.shared_token import SharedToken
from service.intake.verify.slack import Slack
from service.intake.verify.standard_webhooks import StandardWebhooks
from service.intake.verify.twilio import Twilio
from service.intake.verify.unsigned import Unsigned

SCHEMES: Mapping[str, Callable[[Mapping[str, Any]], Scheme]] = {
    "none": Unsigned.from_options,
    "token": SharedToken.from_options,
    "basic": Basic.from_options,
    "hmac": KeyedHash.from_options,
    "standard_webhooks": StandardWebhooks.from_options,
    "github": github,
    "stripe": stripe,
    "slack": Slack.from_options,
    "shopify": shopify,
    "gitlab": GitLab.from_options,
    "twilio": Twilio.from_options,
    "google_oidc": GoogleOidc.from_options,
}


def build_scheme(verify: str | Mapping[str, Any]) -> Scheme:
    """Build from `none` or `{scheme: ..., ...}`, rendered. Raises SchemeError, a sentence without secrets."""
    options: Mapping[str, Any] = {"scheme": verify} if isinstance(verify, str) else verify
    name = options.get("scheme")
    build = SCHEMES.get(name) if isinstance(name, str) else None
    if build is None:
        raise SchemeError(f"`scheme` must be one of {', '.join(SCHEMES)}, not {name!r}")
    return guarded(build(options), options)

"""Providers that sign by a keyed hash and nothing else: `hmac` with the options already chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.intake.verify.keyed_hash import KeyedHash

Options = Mapping[str, Any]

# No timestamp is signed: the key of the event is what stops a replay.
_GITHUB: Options = {"header": "X-Hub-Signature-256", "prefix": "sha256=", "id_header": "X-GitHub-Delivery"}

# `t=...,v1=...,v0=...`: the time stands in the header of the signature, with several `v1` while a secret is
# rolled. The secret is used as the text it is, with its `whsec_`.
_STRIPE: Options = {
    "header": "Stripe-Signature",
    "separator": ",",
    "prefix": "v1=",
    "timestamp_prefix": "t=",
    "content": "{ts}.{body}",
    "id_path": "id",
}

# One event goes to each subscribed topic. `X-Shopify-Webhook-Id` is no key: it may be the subscription's.
_SHOPIFY: Options = {
    "header": "X-Shopify-Hmac-Sha256",
    "encoding": "base64",
    "id_header": ["X-Shopify-Event-Id", "X-Shopify-Topic"],
}


def github(options: Options) -> KeyedHash:
    """Build from `secret(s)`."""
    return preset(options, _GITHUB)


def stripe(options: Options) -> KeyedHash:
    """Build from `secret(s)` and `tolerance`."""
    return preset(options, _STRIPE)


def shopify(options: Options) -> KeyedHash:
    """Build from `secret(s)`: the client secret of the app."""
    return preset(options, _SHOPIFY)


def preset(options: Options, chosen: Options) -> KeyedHash:
    """Build `hmac` from the secrets and the tolerance of the trigger, and from what the provider does."""
    own = {name: options[name] for name in ("secret", "secrets", "tolerance") if name in options}
    return KeyedHash.from_options({**own, **chosen})

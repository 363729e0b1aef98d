"""Reads a webhook's `verify`: how it knows that a delivery is authentic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.parse_fields import Section, closest, listed, words
from pipelines.parse_templates import check_mapping
from pipelines.templating import is_template
from pipelines.values import plain

_KEYS_OF_ALL = words("scheme secret secrets allow required_headers")
_KEYS = {
    "none": frozenset[str](),
    "token": words("header query"),
    "basic": words("username"),
    "standard_webhooks": words("tolerance"),
    "hmac": words(
        """
        header prefix separator algorithm encoding secret_encoding content url timestamp_header
        timestamp_prefix timestamp_unit tolerance id_header id_path
        """
    ),
    "github": frozenset[str](),
    "stripe": words("tolerance"),
    "slack": words("tolerance"),
    "shopify": frozenset[str](),
    "gitlab": words("tolerance"),
    "twilio": words("url"),
    "google_oidc": words("audience email tolerance certificates"),
}
SCHEMES = frozenset(_KEYS)
_WITHOUT_SECRET = frozenset(("none", "google_oidc"))
FILE_NAMES = frozenset(("env_var", "env", "secret", "mage_secret_var", "json_value"))


def read_verify(section: Section) -> str | dict[str, Any] | None:
    """Return `none`, or the scheme with its options; None when the trigger gets a token of its own."""
    value = section.get("verify")
    if value is None:
        return None
    if isinstance(value, str):
        options: dict[str, Any] = {"scheme": value}
    else:
        options = section.mapping("verify")
        check_mapping(section, "verify", FILE_NAMES)
    scheme = options.get("scheme")
    if not _is_known(section, scheme):
        return None
    if isinstance(value, Mapping):
        # A misspelt `allow` or `required_headers` would let in what it was to keep out.
        section.section("verify", section.what).unknown_keys(
            f"verify: {scheme}", _KEYS_OF_ALL | _KEYS[str(scheme)]
        )
    has_secret = options.get("secret") is not None or bool(options.get("secrets"))
    if set(options) == {"scheme"} and scheme in ("none", "token"):
        return "none" if scheme == "none" else None  # None: a token is made, and wanted as a bearer
    if not has_secret and scheme not in _WITHOUT_SECRET:
        hint = "{{ secret('...') }}"
        section.error("verify", f'`verify: {scheme}` needs a `secret` (or `secrets`); write secret: "{hint}"')
    _warn_of_open_secrets(section, options)
    return {key: plain(item) for key, item in options.items()}


def _is_known(section: Section, scheme: Any) -> bool:
    if isinstance(scheme, str) and scheme in SCHEMES:
        return True
    if scheme is None:
        section.error("verify", f"`verify` has no `scheme`; give it one of {listed(SCHEMES)}")
    else:
        hint = closest(str(scheme), SCHEMES)
        section.error(
            "verify", f"the verify scheme {str(scheme)[:40]!r} is unknown (known: {listed(SCHEMES)}){hint}"
        )
    return False


def _warn_of_open_secrets(section: Section, options: dict[str, Any]) -> None:
    several = options.get("secrets")
    values = [options.get("secret"), *(several if isinstance(several, list) else [])]
    texts = [value.get("secret") if isinstance(value, dict) else value for value in values]
    if any(isinstance(text, str) and not is_template(text) for text in texts):
        section.warning(
            "verify", "a secret stands in the file as it is; write {{ secret('name') }} in its place"
        )

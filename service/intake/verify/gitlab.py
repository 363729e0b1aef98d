"""GitLab: a secret token that the request repeats, or a signing token after Standard Webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from service.intake.verify.base import Fault, Scheme, Signed, Unverified
from service.intake.verify.secrets import read_secrets
from service.intake.verify.shared_token import SharedToken
from service.intake.verify.standard_webhooks import SECRET_PREFIX, StandardWebhooks

_TOKEN_HEADER = "X-Gitlab-Token"  # noqa: S105 - the name of a header
_ID_HEADERS = ("idempotency-key", "x-gitlab-event-uuid")


@dataclass(frozen=True, slots=True)
class GitLab(Scheme):
    """Accepts what fits any live secret. A `whsec_` one signs, any other is repeated."""

    schemes: tuple[SharedToken | StandardWebhooks, ...]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from `secret(s)` and, for signing tokens, `tolerance`."""
        secrets = read_secrets(options)
        signing = [secret.as_option() for secret in secrets if secret.text.startswith(SECRET_PREFIX)]
        repeated = [secret.as_option() for secret in secrets if not secret.text.startswith(SECRET_PREFIX)]
        schemes: list[SharedToken | StandardWebhooks] = []
        if signing:
            schemes.append(StandardWebhooks.from_options({**options, "secret": None, "secrets": signing}))
        if repeated:
            schemes.append(SharedToken.from_options({"secrets": repeated, "header": _TOKEN_HEADER}))
        return cls(tuple(schemes))

    @property
    def secret_headers(self) -> frozenset[str]:
        return frozenset(name for scheme in self.schemes for name in scheme.secret_headers)

    def verify(self, signed: Signed, now: datetime) -> None:
        found: list[Fault] = []
        for scheme in self.schemes:
            try:
                scheme.verify(signed, now)
            except Unverified as unverified:
                found.append(unverified.fault)
        if len(found) == len(self.schemes):
            # Of two reasons, the one that says more than that a header is not there.
            raise Unverified(next((fault for fault in found if fault is not Fault.MISSING_HEADER), found[0]))

    def delivery_id(self, headers: Mapping[str, str], data: Any) -> str | None:
        # With a signing token `webhook-id`, which is signed, has the same value as `Idempotency-Key`.
        signed = [scheme.delivery_id(headers, data) for scheme in self.schemes]
        found = [*signed, *(headers.get(name) for name in _ID_HEADERS)]
        return next((value for value in found if value), None)

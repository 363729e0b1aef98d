"""The address of a delivery as its sender knows it."""

from __future__ import annotations

from service.intake.verify.signed_content import Text


def public_address(url: str | None) -> Text:
    """Return what reads the address: `url`, where a proxy changes it, with the query of the delivery."""
    if url is None:
        return lambda signed: signed.url

    def address(signed_url: str) -> str:
        _, mark, query = signed_url.partition("?")
        return f"{url}{mark}{query}"

    return lambda signed: address(signed.url)

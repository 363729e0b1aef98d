"""Secrets by name: `mage_ai.data_preparation.shared.secrets`."""

from __future__ import annotations

from typing import Any, NoReturn

from pipelines.context import current_block
from pipelines.errors import MillraceError, TerminalError


def get_secret_value(name: str, *_: Any, **__: Any) -> Any:
    """Return the secret of that name. Raises SecretMissing, which says where it was looked for."""
    context = current_block.get()
    if context is None:
        raise MillraceError(
            f"get_secret_value({name!r}) works inside a running block, on the block's own thread"
        )
    return context.profiles.functions["secret"](name)


def create_secret(name: str, *_: Any, **__: Any) -> NoReturn:
    """Raise: a run does not change the secrets of the service."""
    raise TerminalError(
        f"create_secret({name!r}): blocks cannot make secrets here; write the value to the file {name!r} in "
        f"the secrets folder, or set MILLRACE_SECRET_{name.upper()}"
    )

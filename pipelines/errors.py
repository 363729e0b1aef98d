"""The family of errors that pipelines raise.

MillraceError
├── TerminalError         trying again cannot help; never retried
│   ├── BlockCodeError    the block's code breaks a rule: no decorated function, wrong number of inputs, ...
│   └── CheckpointError   a stored output is not there any more, or damaged
├── NotStorableError      an output that no checkpoint can hold; its block is volatile
├── BlockSkipped          the block cannot run here, and that is no failure: it and what follows are left out
└── NotYet                what the block waits for is not there: it is parked, and looked at again later
"""

from __future__ import annotations


class MillraceError(Exception):
    """Something went wrong that a user can understand: what, to which thing, where, and what to do."""


class TerminalError(MillraceError):
    """Trying again cannot help. Raise it from a block to fail it at once, whatever its retry policy."""


class BlockCodeError(TerminalError):
    """The code of a block breaks a rule that it has to keep to be run at all."""


class CheckpointError(TerminalError):
    """The stored output of a finished block cannot be read back."""


class NotStorableError(MillraceError):
    """An output has a type that neither Arrow nor JSON can hold without loss."""


class BlockSkipped(MillraceError):
    """What a block needs is not on this machine. It ends as skipped for this reason, and what follows too."""


class NotYet(MillraceError):
    """What a block waits for is not there yet: it is parked with this reason and looked at again.

    That is no failure and spends no try. While all that is left of a run is parked, it holds no worker.
    """

    def __init__(self, reason: str, *, seconds: float) -> None:
        """`seconds`: when to look again at the latest."""
        super().__init__(reason)
        self.seconds = seconds

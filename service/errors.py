"""What can go wrong in the service: a small family, each built from the facts its message names."""

from __future__ import annotations

from collections.abc import Mapping


class MillraceServiceError(Exception):
    """The root: a sentence that says what happened, to which thing, and what to do."""


class StoreError(MillraceServiceError):
    """Something about the store of events and runs."""


class StoreUnavailable(StoreError):
    """The store did not answer; nothing was written. Callers may try again later."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"the store {store} is not available: {reason.rstrip(' .?')}. "
            "Check that it is running and reachable; Millrace goes on by itself once it is back"
        )
        self.store = store
        self.reason = reason


class CommitUnknown(StoreError):
    """The connection broke during a commit: it may have happened or not. Repeat it where a key decides."""

    def __init__(self, store: str, commit: str) -> None:
        super().__init__(
            f"the connection to {store} broke during the commit {commit!r}; whether it was made is unknown. "
            "Send the same request again: its key keeps it from happening twice"
        )
        self.store = store
        self.commit = commit


class StoreVersionError(StoreError):
    """The store's tables belong to another version of Millrace."""

    def __init__(self, store: str, found: str, known: str) -> None:
        super().__init__(
            f"the store {store} has schema version {found!r}, which this Millrace ({known!r}) "
            "does not know. Install the version of Millrace that wrote it, or a newer one"
        )
        self.found = found
        self.known = known


class UnsupportedStore(StoreError):
    """The URL names a database that Millrace cannot keep its state in."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"cannot keep state in {store}; MILLRACE_DATABASE_URL must be sqlite:///<path of a file> "
            "or postgresql://user:password@host/database"
        )


class QueueFull(MillraceServiceError):
    """Too many writes are waiting already; the sender should come back later."""

    def __init__(self, queue: str, size: int) -> None:
        super().__init__(f"{size} entries wait already to be written ({queue}); try again in a moment")
        self.queue = queue
        self.size = size


class Closed(MillraceServiceError):
    """The part is shutting down and takes nothing new."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is shutting down and takes nothing new; try again in a moment")


class NotFound(MillraceServiceError):
    """Nothing of that kind has that id."""

    def __init__(self, kind: str, ident: str) -> None:
        super().__init__(f"there is no {kind} {ident!r}")
        self.kind = kind
        self.ident = ident


class WrongState(MillraceServiceError):
    """The thing exists, but what was asked does not fit the state it is in."""

    def __init__(self, kind: str, ident: str, state: str, wish: str) -> None:
        super().__init__(f"cannot {wish} the {kind} {ident!r}: it is {state}")
        self.kind = kind
        self.ident = ident
        self.state = state


class ClaimLost(MillraceServiceError):
    """Somebody else holds the claim by now; what was done under the old one must not be committed."""

    def __init__(self, kind: str, ident: str) -> None:
        super().__init__(f"the claim on {kind} {ident!r} was lost: it lapsed, and another engine took over")
        self.ident = ident


class IdempotencyConflict(MillraceServiceError):
    """An idempotency key came again with another request."""

    def __init__(self, key: str, run_id: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} was used before for another request (run {run_id}); "
            "use a fresh key for a new run, or repeat the first request unchanged"
        )
        self.run_id = run_id


class UnstorableText(MillraceServiceError, ValueError):
    """A name or key holds a character that databases do not take."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} holds a NUL character, which the store cannot keep; strip it before sending"
        )


class SettingsError(MillraceServiceError):
    """A setting is missing or makes no sense."""

    def __init__(self, problem: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(problem)
        self.details = dict(details or {})

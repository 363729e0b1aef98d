"""What the engine's worker and a place where runs execute know of each other."""

from __future__ import annotations

from typing import Any, Protocol

Message = dict[str, Any]


class Process(Protocol):
    """Where one run executes, as the run sees it."""

    @property
    def last_heard(self) -> float:
        """When it said something last, by the monotonic clock."""

    @property
    def is_stopped(self) -> bool:
        """Somebody stopped it from outside (SIGSTOP): it neither works nor ends."""

    def send(self, message: Message) -> None:
        """Send, without waiting for long. One that is gone is no error here."""

    def kill(self) -> None:
        """End it and everything it has started, at once."""

    def memory_bytes(self) -> int:
        """Return what it and its children use; 0 when it is gone."""


class Assignment(Protocol):
    """A run as an executor sees it: what to send, and who hears what becomes of it."""

    @property
    def project(self) -> str: ...

    @property
    def message(self) -> Message: ...

    def attach(self, process: Process) -> bool:
        """The run is now to go to this process; False when it has ended meanwhile and must not."""

    def on_message(self, message: Message) -> None: ...

    def on_death(self, exit_code: int) -> None:
        """The process ended before it had sent the run's result."""


class Executor(Protocol):
    """A place where a number of runs execute at once."""

    def start(self) -> None: ...

    def idle_count(self) -> int:
        """Return how many runs may be assigned now."""

    def lend(self, count: int) -> None:
        """Have so many further places, for runs that others wait for; those in use stay until free."""

    def lent_idle_count(self) -> int:
        """Return how many runs may be assigned to these now."""

    def assign(self, assignment: Assignment) -> None:
        """Take a run. Only one thread assigns, and never more than the counts allow."""

    def stop(self) -> None:
        """End all processes; what they still execute dies with them."""

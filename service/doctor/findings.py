"""What an examination finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from service.matching.triggers import CompiledTrigger
from service.runtime import Runtime


class Health(StrEnum):
    OK = "ok"
    UNKNOWN = "unknown"  # it could not be looked at from here
    WARNING = "warning"  # it works, and will not for ever or not always
    PROBLEM = "problem"  # events or runs are lost, late or stuck


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. What is not well has a remedy."""

    check: str  # such as "store" or "subscription"
    subject: str  # which one
    health: Health
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: the service's parts as this process sees them, and its triggers."""

    runtime: Runtime
    triggers: tuple[CompiledTrigger, ...]


Check = Callable[[Patient], Iterator[Finding]]


def well(check: str, subject: str, message: str) -> Finding:
    return Finding(check, subject, Health.OK, message)


def unknown(check: str, subject: str, message: str, remedy: str | None = None) -> Finding:
    return Finding(check, subject, Health.UNKNOWN, message, remedy)


def warning(check: str, subject: str, message: str, remedy: str) -> Finding:
    return Finding(check, subject, Health.WARNING, message, remedy)


def problem(check: str, subject: str, message: str, remedy: str) -> Finding:
    return Finding(check, subject, Health.PROBLEM, message, remedy)

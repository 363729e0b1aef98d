"""What the web process is made of, handed to every blueprint."""

from __future__ import annotations

from dataclasses import dataclass

from service.dispatcher import Dispatcher
from service.runtime import Runtime


@dataclass(frozen=True, slots=True)
class WebParts:
    """The wired objects that answer requests. Built once per web process, shared by its threads."""

    runtime: Runtime
    dispatcher: Dispatcher

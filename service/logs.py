"""The service's own log: human lines on a terminal, JSON otherwise, one line per change of state.

Both `structlog.get_logger` and the standard library's `logging` end here, so that a library's warning has
the same form as our own lines.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from service.settings import Settings

_QUIET = ("apscheduler", "alembic", "urllib3", "sqlalchemy", "gunicorn", "werkzeug")


def configure_logs(
    settings: Settings, *, process: str, least_level: str | None = None, stream: TextIO | None = None
) -> None:
    """Send the log lines of this process to `stream` (standard error by default).

    `least_level` is for commands whose own output says what happened; the setting wins when it is stricter
    or asks for everything.
    """
    stream = stream or sys.stderr
    shared = _shared_processors(process)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(settings, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_level(settings.log_level, least_level))
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _shared_processors(process: str) -> list[Processor]:
    def name_process(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("process", process)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]


def _renderers(settings: Settings, stream: TextIO) -> list[Processor]:
    if settings.log_format == "human" or (settings.log_format == "auto" and stream.isatty()):
        # Plain tracebacks: the fancy ones print local variables, which may hold secrets and whole frames.
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(sort_keys=True, default=str),
    ]


def _level(chosen: str, least: str | None) -> int:
    names = logging.getLevelNamesMapping()
    if least is None or chosen == "debug":
        return names[chosen.upper()]
    return max(names[chosen.upper()], names[least.upper()])

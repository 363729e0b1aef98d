"""Run in a process of its own, since a process has one log."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.parts.service import clean_environment

PROGRAM = """
import logging, sys, warnings
import structlog
from service.logs import configure_logs
from service.settings import load_settings
configure_logs(load_settings(log_level={level!r}, log_format={form!r}), process="web", least_level={least!r})
log = structlog.get_logger("service.running.worker")
{body}
"""


def lines_of(body: str, *, level: str = "info", form: str = "auto", least: str | None = None) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, level=level, form=form, least=least)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        check=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def json_of(body: str) -> dict[str, Any]:
    (line,) = lines_of(body)
    value: dict[str, Any] = json.loads(line)
    return value


def test_a_line_is_json_without_a_terminal() -> None:
    line = json_of("log.info('run finished', run_id='r1', state='succeeded')")

    assert line["message"] == "run finished"
    assert (line["run_id"], line["state"], line["level"], line["process"]) == (
        "r1",
        "succeeded",
        "info",
        "web",
    )
    assert line["logger"] == "service.running.worker"
    assert line["timestamp"].endswith("Z")


def test_standard_logging_has_the_same_form() -> None:
    line = json_of("logging.getLogger('a.library').warning('%s left', 3, extra={'run_id': 'r1'})")

    assert (line["message"], line["run_id"], line["level"]) == ("3 left", "r1", "warning")


def test_warnings_end_in_the_log() -> None:
    assert "old ways" in json_of("warnings.warn('old ways')")["message"]


def test_a_traceback_stays_within_its_line() -> None:
    line = json_of("try: 1 / 0\nexcept ZeroDivisionError: log.exception('it failed')")

    assert "ZeroDivisionError" in line["exception"]


def test_human_form_is_readable() -> None:
    (line,) = lines_of("log.info('run finished', run_id='r1')", form="human")

    assert "run finished" in line
    assert "run_id=r1" in line
    assert "{" not in line


def test_a_command_keeps_quiet_unless_everything_is_asked_for() -> None:
    body = "log.info('detail')\nlog.warning('trouble')"

    assert len(lines_of(body, least="warning")) == 1
    assert len(lines_of(body, least="warning", level="debug")) == 2


def test_traceback_for_people_shows_no_local_variables() -> None:
    body = (
        "def connect(password):\n    raise OSError('refused')\n"
        "try: connect('hush' * 2)\nexcept OSError: log.exception('it failed')"
    )

    shown = "\n".join(lines_of(body, form="human"))

    assert "OSError: refused" in shown
    assert "hushhush" not in shown

"""`make demo` without a terminal: it ends by itself, also beside another one."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
SECONDS = 120
PREFERRED_PORT = 6789


def test_two_demos_at_once_both_end_in_a_finished_run():
    demos = [started() for _ in range(2)]

    for demo in demos:
        assert_shown(demo)


def test_demo_takes_no_other_service_for_its_own():
    with suppress(OSError), ThreadingHTTPServer(("127.0.0.1", PREFERRED_PORT), Impostor) as impostor:
        threading.Thread(target=impostor.serve_forever).start()
        try:
            output = assert_shown(started())
        finally:
            impostor.shutdown()

        assert f"The page: http://127.0.0.1:{PREFERRED_PORT}" not in output


class Impostor(BaseHTTPRequestHandler):
    """Says that it is ready, as another demo's service does, and takes none of our webhooks."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        self.send_error(401)

    def log_message(self, *_):
        """Say nothing."""


def started():
    return subprocess.Popen(
        [sys.executable, str(DEMO)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_shown(demo):
    output, errors = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 0, output + errors
    assert "run succeeded" in output
    assert "mage.green_taxi in DuckDB" in output
    assert "The page: http://127.0.0.1:" in output
    return output

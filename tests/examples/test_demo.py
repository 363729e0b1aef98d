"""`make demo` without a terminal: it ends by itself, also beside another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
SECONDS = 120


def test_two_demos_at_once_both_end_in_a_finished_run():
    demos = [
        subprocess.Popen(
            [sys.executable, str(DEMO)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]

    for demo in demos:
        output, errors = demo.communicate(timeout=SECONDS)
        assert demo.returncode == 0, output + errors
        assert "run succeeded" in output
        assert "mage.green_taxi in DuckDB" in output
        assert "The page: http://127.0.0.1:" in output

"""The command line `millrace`."""

from __future__ import annotations

import sys

from service.cli.edge import run_command

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    sys.exit(run_command(sys.argv[1:]))

"""The outer edge of the command line: every error ends here, as one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from pipelines.errors import MillraceError
from service.cli.root import millrace
from service.errors import MillraceServiceError
from service.exits import DONE, FAILED, INTERRUPTED, exit_code_of


def run_command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code. Nothing but SystemExit of a child process escapes."""
    try:
        code = millrace.main(args=list(arguments), prog_name="millrace", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader (`head`, a pager) has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (MillraceError, MillraceServiceError) as error:
        click.echo(f"Error: {error}", err=True)
        return exit_code_of(error)
    except Exception as error:  # a bug of ours, or of the machine
        return _show_unexpected(error)
    return code if isinstance(code, int) else DONE


def _show_unexpected(error: Exception) -> int:
    sentence = str(error) or "no message"
    click.echo(f"Error: something unexpected happened: {type(error).__name__}: {sentence}", err=True)
    if os.environ.get("MILLRACE_LOG_LEVEL") == "debug":
        traceback.print_exception(error, file=sys.stderr)
    else:
        click.echo("Set MILLRACE_LOG_LEVEL=debug to see where.", err=True)
    return FAILED

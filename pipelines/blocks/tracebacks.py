"""What a user is told of an exception in a block: where in their code, and what; none of our own frames."""

from __future__ import annotations

import traceback
from pathlib import Path

from pipelines.errors import BlockCodeError

_CHAINED_ASSIGNMENT = (
    "this assigns to a copy and changes nothing (chained assignment, which pandas ignores since version 3); "
    "write df['a'] = df['a'].fillna(0) instead of df['a'].fillna(0, inplace=True), and "
    "df.loc[rows, 'a'] = value instead of df['a'][rows] = value"
)


def describe(error: BaseException, root: Path) -> str:
    """Return one sentence: the file and line of the user's code, the exception and its message."""
    if isinstance(error, BlockCodeError):
        return str(error)  # these say themselves where
    message = _message(error)
    where = _place(error, root)
    return f"{where}: {message}" if where else message


def user_traceback(error: BaseException, root: Path) -> str:
    """Return the traceback with the frames of the project, and of each exception the innermost one."""
    whole = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    pending: list[traceback.TracebackException | None] = [whole]
    while pending:
        part = pending.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = _trimmed(part.stack, root)
        pending += [part.__cause__, part.__context__]
    return "".join(whole.format()).rstrip()


def _message(error: BaseException) -> str:
    name = type(error).__name__
    if name == "ChainedAssignmentError":
        return f"{name}: {_CHAINED_ASSIGNMENT}"
    if isinstance(error, SystemExit):
        return f"the block called sys.exit({error.code!r}); a block ends by returning, or fails by raising"
    if isinstance(error, SyntaxError):
        return f"{name}: {error.msg}"
    text = str(error).strip()
    return f"{name}: {text}" if text else name


def _place(error: BaseException, root: Path) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, root)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename, root):
            return f"{_relative(frame.filename, root)}:{frame.lineno}"
    return None


def _trimmed(stack: traceback.StackSummary, root: Path) -> traceback.StackSummary:
    frames = [frame for frame in stack if _is_users(frame.filename, root)]
    if frames and stack[-1] is not frames[-1]:
        frames.append(stack[-1])
    return traceback.StackSummary.from_list(frames or list(stack[-1:]))


def _is_users(file: str, root: Path) -> bool:
    # An environment inside the project (.venv) holds other people's code.
    return Path(file).is_relative_to(root) and "site-packages" not in file


def _relative(file: str, root: Path) -> str:
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else file

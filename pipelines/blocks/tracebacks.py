"""What a user is told of an exception in a block: where in their code, and what; none of our own frames."""

from __future__ import annotations

import traceback
from pathlib import Path

from pipelines.blocklogs import storable
from pipelines.errors import BlockCodeError, MillraceError

MAX_ERROR_CHARACTERS = 4_000  # kept of one error; the block's log has more

_OUR_CODE = Path(__file__).resolve().parents[1]

MAX_MESSAGE_CHARACTERS = 10_000

_CHAINED_ASSIGNMENT = (
    "this assigns to a copy and changes nothing (chained assignment, which pandas ignores since version 3); "
    "write df['a'] = df['a'].fillna(0) instead of df['a'].fillna(0, inplace=True), and "
    "df.loc[rows, 'a'] = value instead of df['a'][rows] = value"
)


def describe(error: BaseException, root: Path) -> str:
    """Return one sentence: the file and line of the user's code, the exception and its message."""
    if isinstance(error, BlockCodeError):
        return _kept(str(error))  # these say themselves where
    message = _message(error)
    where = _place(error, root)
    return _kept(f"{where}: {message}" if where else message)


def is_of_project(error: BaseException, root: Path) -> bool:
    """Say whether the error came through code of the project."""
    return _place(error, root) is not None


def _kept(text: str) -> str:
    """Return what a database takes of a message, whatever a block has put into it."""
    more = len(text) - MAX_ERROR_CHARACTERS
    return storable(f"{text[:MAX_ERROR_CHARACTERS]}... ({more} more characters)" if more > 0 else text)


def user_traceback(error: BaseException, root: Path) -> str:
    """Return the traceback with the frames of the project, and of each exception the innermost one.

    An error of our own is its sentence: what lies behind it may hold statements and values of theirs.
    """
    if _is_ours(error, root) and _place(error, root) is None:
        return describe(error, root)
    try:
        return _formatted(error, root)
    except Exception:  # an exception may hold anything in the place of what Python puts there
        return describe(error, root)


def _formatted(error: BaseException, root: Path) -> str:
    whole = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    pending: list[tuple[traceback.TracebackException | None, BaseException | None]] = [(whole, error)]
    while pending:
        part, told = pending.pop()
        if part is None or told is None or id(part) in seen:
            continue
        seen.add(id(part))
        if _is_ours(told, root):
            part.stack = _users_part(part.stack, root)
            part.__cause__ = part.__context__ = None
        else:
            part.stack = _trimmed(part.stack, root)
        pending += [(part.__cause__, told.__cause__), (part.__context__, told.__context__)]
    return "".join(whole.format()).rstrip()


def _is_ours(error: BaseException, root: Path) -> bool:
    """Tell whether our own code has raised the error, and not the block; also where it came by a future."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, MillraceError) and not (frames and _is_users(frames[-1].filename, root))


def _message(error: BaseException) -> str:
    name = type(error).__name__
    if name == "ChainedAssignmentError":
        return f"{name}: {_CHAINED_ASSIGNMENT}"
    if isinstance(error, SystemExit):
        return f"the block called sys.exit({error.code!r}); a block ends by returning, or fails by raising"
    if isinstance(error, SyntaxError):
        return f"{name}: {error.msg}"
    try:
        text = str(error).strip()
    except Exception:
        text = "(its message cannot be read)"
    return f"{name}: {text}" if text else name


def _place(error: BaseException, root: Path) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, root)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename, root):
            return f"{_relative(frame.filename, root)}:{frame.lineno}"
    return None


def _trimmed(stack: traceback.StackSummary, root: Path) -> traceback.StackSummary:
    foreign = [frame for frame in stack if not _is_our_code(frame.filename)]
    frames = _users_part(stack, root)
    if not frames or foreign[-1] is not frames[-1]:
        frames.extend(foreign[-1:])
    return frames


def _users_part(stack: traceback.StackSummary, root: Path) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in stack if _is_users(frame.filename, root)])


def _is_our_code(file: str) -> bool:
    return Path(file).is_relative_to(_OUR_CODE)


def _is_users(file: str, root: Path) -> bool:
    # An environment inside the project (.venv) holds other people's code.
    return Path(file).is_relative_to(root) and "site-packages" not in file


def _relative(file: str, root: Path) -> str:
    path = Path(file)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else file

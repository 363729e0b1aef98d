"""Compiles the code of a project: as it was written, but for where it ran and which pandas it ran on."""

from __future__ import annotations

import ast
import linecache
import re
import warnings
from functools import lru_cache
from types import CodeType

from pipelines.mage.additions import Helpers
from pipelines.mage.besides import with_files_beside
from pipelines.mage.names import ROOT_NAME
from pipelines.mage.oldcalls import OlderCalls
from pipelines.mage.oldpandas import OlderChanges
from pipelines.mage.oldplaces import OlderPlaces
from pipelines.mage.paths import with_located_paths
from pipelines.mage.places import SOURCE_FOLDER, Places

_DECORATED = re.compile(r"^@(?:data_loader|transformer|data_exporter|custom|sensor)\b", re.MULTILINE)
_OURS = re.compile(r"^\s*(?:from|import)\s+pipelines\b", re.MULTILINE)


@lru_cache(maxsize=512)
def compiled(source: str, file: str, places: Places | None) -> CodeType:
    """Return the code of a file. Line numbers stay, and tracebacks show the lines as they were written."""
    # Without a time stamp linecache keeps these lines: they are what runs, whatever the file says by now.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    if places is None or not (SOURCE_FOLDER in source or is_of_mage(source)):
        return compile(source, file, "exec", dont_inherit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # told once, when the tree is compiled
        tree = ast.parse(source, file)
    tree = with_located_paths(tree, places)
    if is_of_mage(source):
        tree = with_files_beside(_as_before_pandas_3(tree))
    return compile(ast.fix_missing_locations(tree), file, "exec", dont_inherit=True)


def _as_before_pandas_3(tree: ast.Module) -> ast.Module:
    helpers = Helpers("pipelines.mage", "oldhelpers")  # the code of blocks imports them: they need pandas
    for rewriter in (OlderCalls, OlderChanges, OlderPlaces):
        tree = rewriter(helpers).visit(tree)
    return helpers.imported_into(tree)


def is_of_mage(source: str) -> bool:
    """Tell whether the code was written for Mage.

    Its templates import from `mage_ai`; who deletes that line has decorators that come from nowhere.
    """
    return ROOT_NAME in source or bool(_DECORATED.search(source) and not _OURS.search(source))

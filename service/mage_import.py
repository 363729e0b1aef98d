"""What is brought over when a Mage project becomes a folder of ours, and what is left behind and why.

A Mage project runs where it is; a copy is for those who want to begin anew. Nothing that looks like a secret
is copied.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.io.config import PROFILES_FILE
from pipelines.mage.imports import missing_names
from pipelines.mage.keys import WITHOUT_EFFECT, is_missed
from pipelines.mage.names import DIFFERS, ROOT_NAME
from pipelines.mage.places import SOURCE_FOLDER
from pipelines.model import BlockType
from pipelines.parse_templated import read_templated
from pipelines.parse_yaml import Document, YamlFault
from pipelines.parse_yaml import Path as YamlPath

_SKIPPED_FOLDERS = {
    ".git": "the history of another repository",
    "__pycache__": "compiled code",
    ".file_versions": "Mage's own versions of files",
    ".cache": "a cache",
    ".ipynb_checkpoints": "checkpoints of notebooks",
    ".millrace": "the state of a service",
    ".venv": "an environment",
    "charts": "charts are not drawn",
    "mage_data": "outputs that Mage stored",
    "node_modules": "an environment",
    "scratchpads": "scratchpads never run",
    "venv": "an environment",
}
_SKIPPED_FILES = {".preferences.yaml": "settings of Mage's page", ".DS_Store": "a desktop's own file"}
_SECRET_NAMES = re.compile(r"(^\.env(\..+)?$)|\.(pem|key|p12|pfx|jks)$|^id_(rsa|ed25519)$", re.IGNORECASE)
_SECRET_KEYS = re.compile(
    r"^\s*(?P<key>\w*(?:password|secret|token|private_key|access_key)\w*)\s*:\s*(?P<value>[^\s#{|>].*)$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"^[\"']?(your_.*|changeme|\.\.\.|null|~|\{\{.*)?[\"']?\s*$", re.IGNORECASE)
_BLOCK_FOLDERS = frozenset(type.folder for type in BlockType)
_LARGEST = 1_000_000  # bytes of a file that may be a key


@dataclass(frozen=True)
class Note:
    """One thing worth knowing about a file."""

    file: str
    line: int
    message: str


@dataclass
class Inventory:
    """The files of a project: what is copied, what is left behind, and what behaves differently."""

    copied: list[str] = field(default_factory=list)
    left: list[Note] = field(default_factory=list)
    differences: list[Note] = field(default_factory=list)


@dataclass
class Copied:
    """What a copy did: files written, files that were the same already, files that are there and differ."""

    written: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def take_inventory(root: Path) -> Inventory:
    """Look at every file of a project, and change nothing."""
    inventory = Inventory()
    for path in _files(root, inventory):
        name = path.relative_to(root).as_posix()
        reason = _SKIPPED_FILES.get(path.name) or _why_secret(path)
        if reason is not None:
            inventory.left.append(Note(name, 1, reason))
            continue
        inventory.copied.append(name)
        inventory.differences += _differences(name, path)
    return inventory


def copy_files(root: Path, target: Path, names: list[str]) -> Copied:
    """Copy files that are not there yet. What is there already and differs is never written over."""
    result = Copied()
    for name in names:
        source, place = root / name, target / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            aside = place.with_name(f"{place.name}.millrace-new")
            shutil.copyfile(source, aside)
            os.replace(aside, place)
            result.written.append(name)
        elif place.read_bytes() == source.read_bytes():
            result.same.append(name)
        else:
            result.kept.append(name)
    return result


def _files(root: Path, inventory: Inventory) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        for name in sorted(folders):
            if name in _SKIPPED_FOLDERS and name != "__pycache__":
                below = Path(folder, name).relative_to(root).as_posix()
                inventory.left.append(Note(f"{below}/", 1, _SKIPPED_FOLDERS[name]))
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                note = Note(path.relative_to(root).as_posix(), 1, "a link that leads out of the project")
                inventory.left.append(note)
            else:
                yield path


def _why_secret(path: Path) -> str | None:
    if _SECRET_NAMES.search(path.name):
        return "it looks like secrets; give them by the environment or the secrets folder"
    if path.suffix == ".json" and path.stat().st_size < _LARGEST and _is_key(path):
        return "it is the key of an account; keep it outside, and name its path in io_config.yaml"
    return None


def _is_key(path: Path) -> bool:
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and "private_key" in value


def _differences(name: str, path: Path) -> Iterator[Note]:
    suffix = PurePosixPath(name).suffix
    if suffix not in (".py", ".yaml", ".yml", ".sql"):
        return
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return
    if name == PROFILES_FILE:
        yield from _secrets_in(name, text)
    elif suffix == ".py":
        yield from _different_imports(name, text)
    elif suffix != ".sql":
        yield from _missed_keys(name, text)
    for number, line in enumerate(text.splitlines(), start=1):
        # Mage writes where it keeps outputs into every pipeline; that key has no effect.
        if SOURCE_FOLDER in line and not line.lstrip().startswith(
            ("variables_dir:", "remote_variables_dir:")
        ):
            yield Note(name, number, "/home/src stands for the project's folder, or the one around it")


def _secrets_in(name: str, text: str) -> Iterator[Note]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SECRET_KEYS.match(line)
        if match and not _PLACEHOLDER.match(match["value"]):
            yield Note(
                name,
                number,
                f"{match['key']} stands here as it is; write {{{{ env_var(...) }}}} or {{{{ secret(...) }}}}",
            )


def _different_imports(name: str, text: str) -> Iterator[Note]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the project's own code
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return  # which `check` tells
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == ROOT_NAME:
            below = (node.module or "").partition(".")[2]
            for alias in node.names:
                key = f"{below}.{alias.name}" if below else alias.name
                if key in DIFFERS:
                    yield Note(name, node.lineno, f"{alias.name}: {DIFFERS[key]}")
    if PurePosixPath(name).parts[0] not in _BLOCK_FOLDERS:  # `check` looks at blocks alone
        for missing in missing_names(tree):
            yield Note(name, missing.line, missing.sentence)


def _missed_keys(name: str, text: str) -> Iterator[Note]:
    """Tell of the keys by which a project or a pipeline asks for something that it does not get."""
    parts = PurePosixPath(name).parts
    kind = "project" if parts == ("metadata.yaml",) else "pipeline"
    if kind == "pipeline" and not (parts[0] == "pipelines" and parts[-1] == "metadata.yaml"):
        return
    try:
        document = read_templated(text)
    except YamlFault:
        return  # which `check` tells
    values = document.value if isinstance(document.value, Mapping) else {}
    yield from _missed(kind, values, (), name, document)
    for place, block in enumerate(values.get("blocks") or ()):
        if isinstance(block, Mapping):
            yield from _missed("block", block, ("blocks", place), name, document)


def _missed(
    kind: str, values: Mapping[Any, Any], path: YamlPath, file: str, document: Document
) -> Iterator[Note]:
    for key, value in values.items():
        if is_missed(kind, key, value):
            message = f"{key}: it has no effect; {WITHOUT_EFFECT[kind][key]}"
            yield Note(file, document.line((*path, key)), message)

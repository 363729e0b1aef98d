"""What a dbt block is told: its project, profiles, target, selection and variables."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.blocks.rendering import keywords, names, rendered
from pipelines.context import BlockContext
from pipelines.errors import BlockCodeError, MillraceError
from pipelines.io.config import ProfileError
from pipelines.model import Block, BlockType
from pipelines.parse_yaml import YamlFault, read_yaml
from pipelines.templating import TemplateError, render_file

PROJECT_FILE = "dbt_project.yml"
PROFILES_FILE = "profiles.yml"
PYTHON_KEY = "DBT_PYTHON"  # of the profile `default` of io_config.yaml

# Filters that only dbt itself has: a file that uses one is left to dbt, which knows `env_var` as well.
_DBT_FILTERS = re.compile(r"\|\s*as_(number|bool|native|text)\b")
_SELECTING = ("--select", "-s", "--models", "-m", "--exclude", "--selector", "--indirect-selection")
# Commands that leave something to be tested, and that do not test by themselves.
_TESTED = ("run", "seed", "snapshot")


@dataclass(frozen=True)
class DbtSettings:
    """One dbt block, ready to be called."""

    project: Path
    python: str
    profiles: str  # the text of profiles.yml, rendered
    target: str | None
    arguments: tuple[str, ...]  # the command, and what the block adds to it
    model: str | None  # of a block that is a single model
    tests: bool
    variables: Mapping[str, Any]

    @classmethod
    def of(cls, context: BlockContext) -> DbtSettings:
        """Read the configuration and the file of a dbt block. Raises BlockCodeError."""
        given = context.block.configuration
        own = given.get("dbt") if isinstance(given.get("dbt"), Mapping) else {}
        assert isinstance(own, Mapping)
        project = _project(context)
        target = _value(context, "dbt_profile_target")
        arguments, variables = _arguments(context, str(own.get("command") or ""))
        return cls(
            project=project,
            python=_python(context),
            profiles=_profiles(context, project),
            target=str(target) if target else None,
            arguments=arguments,
            model=_model(context.block) if context.block.language == "sql" else None,
            tests=not own.get("disable_tests", given.get("disable_tests")),
            variables=json.loads(json.dumps({**keywords(context), **variables}, default=str)),
        )

    def calls(self, folder: Path) -> Iterator[list[str]]:
        """Yield the arguments of each call of dbt, in their order; what dbt writes goes into `folder`."""
        shared = [
            "--project-dir", str(self.project), "--profiles-dir", str(folder), "--target-path",
            str(folder / "target"), "--log-path", str(folder / "logs"), "--no-use-colors",
        ]  # fmt: skip
        if self.target:
            shared += ["--target", self.target]
        shared += ["--vars", json.dumps(self.variables)]
        if self._lacks_packages:
            yield ["deps", *shared]
        yield [*self.arguments, *shared]
        if self.tests and self.arguments[0] in _TESTED:
            yield ["test", *_selection(self.arguments[1:]), *shared]

    @property
    def _lacks_packages(self) -> bool:
        asks = any(
            "packages:" in file.read_text("utf-8", errors="replace")
            for name in ("packages.yml", "dependencies.yml")
            if (file := self.project / name).is_file()
        )
        return asks and not (self.project / "dbt_packages").is_dir()


def _value(context: BlockContext, key: str) -> Any:
    return rendered(context, context.block.configuration.get(key), where=_where(context, key))


def _where(context: BlockContext, key: str) -> str:
    return f"{context.pipeline.file}:{context.block.line}: block {context.block.name!r}, {key}"


def _python(context: BlockContext) -> str:
    """Return the Python that has dbt: the one that the profile `default` names, or our own."""
    if "default" not in context.profiles.names():
        return sys.executable
    named = context.profiles.profile("default").get(PYTHON_KEY)
    if not named:
        return sys.executable
    path = context.root / str(named)  # an absolute one stays what it is
    if not path.exists():
        raise ProfileError(f"profile 'default': {PYTHON_KEY} names {named}, which is not there")
    return str(path)


# --- project and profiles --------------------------------------------------------------------------------


def _project(context: BlockContext) -> Path:
    """Return the folder of the dbt project: the one that is named, or the one that the model lies in."""
    named = _value(context, "dbt_project_name")
    if named:
        candidates = [context.root / folder / str(named) for folder in ("dbt", ".", "dbts", "..")]
    else:
        candidates = list((context.root / context.block.path).resolve().parents)
    for folder in candidates:
        if (folder / PROJECT_FILE).is_file():
            return folder.resolve()
    if named:
        raise BlockCodeError(
            f"{_where(context, 'dbt_project_name')}: there is no {PROJECT_FILE} in dbt/{named}; put the dbt "
            f"project there, or name its folder"
        )
    raise BlockCodeError(
        f"{context.block.path}: no folder above it has a {PROJECT_FILE}; name the dbt project by "
        f"`dbt_project_name` in the configuration of block {context.block.name!r}"
    )


def _profiles(context: BlockContext, project: Path) -> str:
    named = _value(context, "dbt_profiles_file_path")
    candidates = [project / PROFILES_FILE, project.parent / PROFILES_FILE]
    if named:
        candidates = [folder / str(named) for folder in (context.root, context.root / "dbt", project)]
    for file in candidates:
        if file.is_file():
            return _rendered_profiles(context, file)
    if named:
        raise BlockCodeError(f"{_where(context, 'dbt_profiles_file_path')}: there is no file {named}")
    raise BlockCodeError(
        f"the dbt project {project.name} has no {PROFILES_FILE}; write one into its folder, or name it by "
        f"`dbt_profiles_file_path` in the configuration of block {context.block.name!r}"
    )


def _rendered_profiles(context: BlockContext, file: Path) -> str:
    text = file.read_text("utf-8-sig")
    if _DBT_FILTERS.search(text):
        return text
    try:
        return render_file(text, file=file.name, functions=names(context))
    except TemplateError as error:
        raise BlockCodeError(f"{_shown(context.root, file)}: {error}") from error


def _shown(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def connection(settings: DbtSettings) -> Mapping[str, Any] | None:
    """Return the settings of the database that dbt writes to, where they can be told."""
    try:
        project = read_yaml((settings.project / PROJECT_FILE).read_text("utf-8-sig")).value
        profile = read_yaml(settings.profiles).value[project["profile"]]
        found = profile["outputs"][settings.target or profile.get("target") or "default"]
    except (YamlFault, OSError, LookupError, TypeError, MillraceError):
        return None
    return found if isinstance(found, Mapping) else None


# --- what is run -----------------------------------------------------------------------------------------


def _arguments(context: BlockContext, command: str) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Return the command with its arguments, and the variables among them."""
    if context.block.language == "sql":
        return (command or "run", *_single_model(context)), {}
    text = rendered(context, _without_comments(context.source), where=context.block.path)
    try:
        words = shlex.split(str(text))
    except ValueError as error:
        raise BlockCodeError(f"{context.block.path}: the arguments cannot be read: {error}") from error
    if words and not words[0].startswith("-") and not command:
        command, *words = words
    words, variables = _taken_vars(context, words)
    return (command or "run", *words), variables


def _without_comments(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.lstrip().startswith("#"))


def _taken_vars(context: BlockContext, words: list[str]) -> tuple[list[str], Mapping[str, Any]]:
    """Take `--vars` out of the arguments: they join ours, and win."""
    for place, word in enumerate(words):
        if word == "--vars" and place + 1 < len(words):
            text, rest = words[place + 1], words[:place] + words[place + 2 :]
        elif word.startswith("--vars="):
            text, rest = word.removeprefix("--vars="), words[:place] + words[place + 1 :]
        else:
            continue
        try:
            found = read_yaml(text).value
        except YamlFault as fault:
            raise BlockCodeError(f"{context.block.path}: --vars: {fault.message}") from None
        if not isinstance(found, Mapping):
            raise BlockCodeError(f"{context.block.path}: --vars must be a mapping of names and values")
        return rest, found
    return words, {}


def _single_model(context: BlockContext) -> list[str]:
    """Select the model and all above it, but what the blocks above this one have run."""
    done = [
        f"+{_model(block)}"
        for name in _ancestors(context)
        if (block := context.pipeline.block(name)).type is BlockType.DBT and block.language == "sql"
    ]
    return ["--select", f"+{_model(context.block)}", *(["--exclude", *done] if done else [])]


def _ancestors(context: BlockContext) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(context.block.upstream)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += context.pipeline.block(name).upstream
    return list(found)


def _model(block: Block) -> str:
    return Path(block.path).stem


def _selection(arguments: Sequence[str]) -> list[str]:
    """Return those arguments that select, with their values."""
    kept: list[str] = []
    keeps = False
    for word in arguments:
        if word.startswith("-"):
            keeps = word.partition("=")[0] in _SELECTING
        if keeps:
            kept.append(word)
    return kept

"""Every snippet of the how-tos is what a reader can take: loaded, checked, or run."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from pipelines.model import Severity, TriggerType
from pipelines.project import Project
from pipelines.secrets import Secrets
from service.checks import problems_of
from service.cli.root import millrace
from service.matching.rendering import Rendering
from service.matching.triggers import compile_triggers
from tests.architecture.floors import ROOT

HOWTOS = sorted((ROOT / "docs" / "events").glob("*.md"))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"\A(?:#|--) (\S+\.(?:py|sql|yaml|json))\n")
_SECRET = re.compile(r"""secret\(\s*['"]([\w-]+)['"]\s*\)""")
_ENV = re.compile(r"""env_var\(\s*['"]([A-Z0-9_]+)['"]\s*\)""")
PROFILES = ("default", "dev", "warehouse", "lake", "shop", "google")


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}:{self.line}"


def snippets(*languages: str) -> Iterator[Snippet]:
    for page in HOWTOS:
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            if found[1] in languages:
                yield Snippet(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


YAML_SNIPPETS = list(snippets("yaml"))


def test_there_are_howtos_with_snippets() -> None:
    assert len({snippet.page for snippet in YAML_SNIPPETS}) >= 10


@pytest.mark.parametrize("snippet", YAML_SNIPPETS, ids=str)
def test_yaml_of_a_howto_makes_a_project_that_works(snippet: Snippet, tmp_path: Path) -> None:
    lay_out(snippet, tmp_path)
    project = Project.load(tmp_path)

    assert [str(one) for one in problems_of(project) if one.severity is not Severity.INFO] == []
    environ = {
        **{
            f"MILLRACE_SECRET_{name.upper().replace('-', '_')}": "whsec_" + "MDAw" * 11
            for name in _SECRET.findall(snippet.text)
        },
        **{name: "value" for name in _ENV.findall(snippet.text)},
    }
    secrets = Secrets(tmp_path / "secrets", environ)
    compiled = compile_triggers(project, environ=environ, secrets=secrets)
    assert [one.fault for one in compiled.values() if one.fault is not None] == []
    Rendering(environ, secrets).tree(project.settings, where="metadata.yaml")


@pytest.mark.parametrize("snippet", list(snippets("json")), ids=str)
def test_json_of_a_howto_can_be_read(snippet: Snippet) -> None:
    json.loads(snippet.text)


@pytest.mark.parametrize("snippet", list(snippets("python", "py")), ids=str)
def test_python_of_a_howto_can_be_read(snippet: Snippet) -> None:
    ast.parse(snippet.text)


@pytest.mark.parametrize("snippet", list(snippets("sh", "bash", "")), ids=str)
def test_shell_of_a_howto_can_be_read(snippet: Snippet) -> None:
    if "<<" not in snippet.text:
        shlex.split(snippet.text, comments=True)


@pytest.mark.parametrize("snippet", list(snippets("sh", "bash", "")), ids=str)
def test_commands_of_a_howto_take_their_options(snippet: Snippet) -> None:
    for words in commands_in(snippet.text):
        command: click.Command = millrace
        while isinstance(command, click.Group) and words:
            following = command.get_command(click.Context(command), words[0])
            if following is None:
                break
            command, words = following, words[1:]
        # Raises for an option that is not there; the values are the reader's.
        command.make_parser(click.Context(command)).parse_args([*words])


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words behind `millrace` of each line that begins with it, up to the next command."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.startswith("millrace ") else []
        if words:
            end = next((n for n, word in enumerate(words) if word in ("|", "&&", ";", ">", "&")), len(words))
            yield words[1:end]


def lay_out(snippet: Snippet, root: Path) -> None:
    """Write the snippet as the file that it is, into a project that has all else that it names."""
    write(root / "metadata.yaml", "name: demo\n")
    write(root / "io_config.yaml", "".join(f"{name}:\n  POSTGRES_HOST: localhost\n" for name in PROFILES))
    write(
        root / "custom" / "work.py",
        "from pipelines import custom\n\n\n@custom\ndef work(*args, **kwargs):\n    return 1\n",
    )
    write(root / "sensors" / "tickets.py", "def poll(cursor, **options):\n    return []\n")
    pipeline = "blocks:\n- {name: work, uuid: work, type: custom, language: python}\n"
    for name in ("taxi", "orders"):
        write(root / "pipelines" / name / "metadata.yaml", f"name: {name}\nuuid: {name}\n{pipeline}")
    write(root / "pipelines" / "orders" / "triggers.yaml", "triggers: [{name: from_shop, type: webhook}]\n")
    named = _NAMED.match(snippet.text)
    keys = set(YAML(typ="safe").load(snippet.text))
    if named is not None:
        write(root / named[1], snippet.text)
    elif keys == {"triggers"}:
        write(root / "pipelines" / "taxi" / "triggers.yaml", snippet.text)
    else:
        pytest.fail(f"{snippet} is no triggers file, and its first line does not name the file it is")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_howtos_cover_every_kind_of_trigger_and_sensor() -> None:
    told = "\n".join(page.read_text("utf-8") for page in HOWTOS)

    for kind in TriggerType:
        assert f"type: {kind}" in told

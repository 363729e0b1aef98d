"""What the pages promise exists: links, commands, settings, API paths, example files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipelines.model import Severity
from pipelines.project import Project
from service.cli.root import millrace
from service.settings import PREFIX, Settings
from tests.architecture.floors import ROOT
from tests.parts.site import Site, site

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)
SPEAKING = [
    *PAGES,
    *ROOT.glob("service/web/templates/*.html"),
    *ROOT.glob("service/cli/**/*.py"),
    *ROOT.glob("service/cli/starter/**/*.yaml"),
    ROOT / "docker-compose.yaml",
    ROOT / "Dockerfile",
]
SERVING = {"start", "web", "engine"}  # what they say is their log

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|`|<code>|\"|: )(?:\$ )?millrace ((?:[a-z][a-z-]*[ ]?)+)", re.MULTILINE)
_FILE = re.compile(r"(?:#|--) (\S+\.(?:py|sql|yaml))\n")


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command that does something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield (*above, name)


def command_at(path: tuple[str, ...]) -> click.Command:
    found: click.Command = millrace
    for name in path:
        assert isinstance(found, click.Group)
        command = found.get_command(click.Context(found), name)
        assert command is not None
        found = command
    return found


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link).resolve() for link in _LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    folders = {path for path in linked if path.is_dir()}

    lost = [
        page.name for page in ROOT.glob("docs/**/*.md") if page not in linked and page.parent not in folders
    ]

    assert lost == []


def test_commands_that_are_named_exist() -> None:
    unknown = []
    for file in SPEAKING:
        for named in _COMMAND.findall(file.read_text("utf-8")):
            command: click.Command | None = millrace
            for word in named.split():
                if not isinstance(command, click.Group):
                    break
                command = command.get_command(click.Context(command), word)
            if command is None:
                unknown.append(f"{file.relative_to(ROOT)}: millrace {named}")

    assert unknown == []


def test_every_command_is_in_the_docs() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    mentioned = {
        word for line in re.findall(r"millrace ([^\n]*)", text) for word in re.findall(r"[a-z]+", line)
    }

    assert [" ".join(path) for path in commands(millrace) if not set(path) <= mentioned] == []


def test_every_command_says_what_it_does_and_prints_json() -> None:
    for path in commands(millrace):
        command = command_at(path)
        options = {option for parameter in command.params for option in parameter.opts}
        assert command.help, path
        assert "--json" in options or path[0] in SERVING, path


def test_settings_that_are_named_exist() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    unknown = {
        (str(page.relative_to(ROOT)), name)
        for page in SPEAKING
        for name in re.findall(rf"{PREFIX}[A-Z_]+", page.read_text("utf-8"))
        if name not in known and not name.startswith(f"{PREFIX}SECRET_") and not name.endswith("_")
    }

    assert unknown == set()


def test_shell_lines_can_be_read_by_a_shell() -> None:
    for page in PAGES:
        for language, text in _FENCE.findall(page.read_text("utf-8")):
            if language == "sh" and "<<" not in text:
                shlex.split(text, comments=True)


def test_files_of_the_projects_page_make_a_project_without_problems(tmp_path: Path) -> None:
    for _, text in _FENCE.findall((ROOT / "docs" / "projects.md").read_text("utf-8")):
        named = _FILE.match(text)
        if named is not None:
            file = tmp_path / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    project = Project.load(tmp_path)

    assert [block.name for block in project.pipelines["orders"].blocks] == [
        "load_orders",
        "clean_orders",
        "orders_by_day",
    ]
    assert [str(one) for one in project.problems if one.severity is not Severity.INFO] == []


def test_api_page_names_every_path_of_the_api_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("name: demo\n")
    with site(tmp_path) as made:
        described = _paths(made)

    named = set(re.findall(r"`(?:GET|POST) (/[^`\s]*)`", (ROOT / "docs" / "api.md").read_text("utf-8")))

    assert {re.sub(r"<[^>]+>", "{}", path) for path in named if path.startswith("/api/v1/")} == described


def _paths(made: Site) -> set[str]:
    document = made.client.get("/api/v1/openapi.json").get_json()
    return {re.sub(r"\{[^}]+\}", "{}", path) for path in document["paths"]} | {"/api/v1/openapi.json"}

"""`millrace new`: blocks and pipelines to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.model import BlockType
from pipelines.parse_fields import closest, listed
from service.blueprints.catalog import Template, TemplateFault, own_templates, project_templates
from service.blueprints.making import MakingRefused, NewBlock, make_block, make_pipeline
from service.cli.options import json_option, project_option, settings_of
from service.cli.output import print_json, print_table
from service.projects import Projects

_TYPES = [type for type in BlockType if type is not BlockType.GLOBAL_DATA_PRODUCT]


@click.group()
def new() -> None:
    """Make blocks and pipelines. Files that are there already are never written over."""


@new.command()
@click.argument("type", type=click.Choice([type.value for type in _TYPES]), metavar="TYPE")
@click.argument("name")
@click.option("--language", type=click.Choice(["python", "sql", "r", "yaml"]), help="Of the block's code.")
@click.option("--template", metavar="TEMPLATE", help="What to begin with; see `millrace new templates`.")
@click.option("--pipeline", metavar="PIPELINE", help="Declare the block in this pipeline, too.")
@click.option("--upstream", multiple=True, metavar="BLOCK", help="With --pipeline: whose output it takes.")
@project_option
@json_option
def block(
    type: str,
    name: str,
    language: str | None,
    template: str | None,
    pipeline: str | None,
    upstream: tuple[str, ...],
    projects: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write the file of a new block, and declare it in a pipeline.

    TYPE is data_loader, transformer, data_exporter, custom, sensor, conditional, callback, dbt or
    data_integration.
    """
    if upstream and pipeline is None:
        raise click.UsageError("--upstream names blocks of a pipeline; name the pipeline by --pipeline")
    root = _root(projects)
    chosen = _template(root, type, language, template)
    try:
        written = make_block(root, NewBlock(name, chosen, upstream), pipeline)
    except MakingRefused as error:
        raise click.UsageError(str(error)) from error
    _tell(written, as_json=as_json)


@new.command(name="pipeline")
@click.argument("name")
@project_option
@json_option
def new_pipeline(name: str, projects: tuple[Path, ...], as_json: bool) -> None:
    """Write an empty pipeline."""
    try:
        written = make_pipeline(_root(projects), name)
    except MakingRefused as error:
        raise click.UsageError(str(error)) from error
    _tell(written, as_json=as_json)


@new.command()
@project_option
@json_option
def templates(projects: tuple[Path, ...], as_json: bool) -> None:
    """List the templates of blocks: ours, and the project's own in custom_templates/blocks."""
    found = _templates(_root(projects))
    if as_json:
        items = [
            {
                "name": one.name,
                "type": one.type,
                "language": one.language,
                "about": one.about,
                "own": one.is_own,
            }
            for one in found
        ]
        print_json({"items": items})
        return
    rows = [(one.type, one.language, one.name, one.about + _mark(one)) for one in found]
    print_table(("type", "language", "template", "about"), rows, empty="There are none.")


def _mark(template: Template) -> str:
    return " (of the project)" if template.is_own else ""


def _root(projects: tuple[Path, ...]) -> Path:
    return Projects(settings_of(projects).project).all()[0].root


def _templates(root: Path) -> list[Template]:
    try:
        return [*own_templates(), *project_templates(root)]
    except TemplateFault as error:
        raise click.ClickException(str(error)) from error


def _template(root: Path, type: str, language: str | None, name: str | None) -> Template:
    fitting = [one for one in _templates(root) if one.type == type and language in (None, one.language)]
    if not fitting:
        raise click.UsageError(
            f"there is no template of a {type} in {language}; see `millrace new templates`"
        )
    if name is None:
        return fitting[0]
    # The project's own come last, and win over ours of the same name.
    for template in reversed(fitting):
        if template.name == name:
            return template
    names = {one.name for one in fitting}
    raise click.UsageError(f"a {type} has no template {name!r}; it has {listed(names)}{closest(name, names)}")


def _tell(written: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"files": written})
        return
    for path in written:
        click.echo(f"wrote {path}")

"""`millrace doctor`: examine the service and what it depends on."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from service.cli.opened import opened
from service.cli.options import json_option, project_option
from service.cli.output import console, print_json, styled, table
from service.doctor.examination import examine
from service.doctor.findings import Finding, Health


@click.command()
@project_option
@json_option
def doctor(projects: tuple[Path, ...], as_json: bool) -> None:
    """Examine store, engines, clock, disk, profiles and, where triggers use it, Google Cloud.

    Each fault comes with its remedy. Writes nothing outside the store. Exits with 1 when there is a problem.
    """
    with opened(projects) as runtime:
        findings = list(examine(runtime))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    if any(finding.health is Health.PROBLEM for finding in findings):
        raise click.exceptions.Exit(1)


def _print(findings: list[Finding]) -> None:
    rows = [
        (
            styled(finding.health),
            " ".join(part for part in (finding.check, finding.subject) if part),
            finding.message if finding.remedy is None else f"{finding.message}\n→ {finding.remedy}",
        )
        for finding in findings
    ]
    console().print(table(("health", "what", "finding"), rows))
    counted = Counter(finding.health for finding in findings)
    click.echo(", ".join(f"{counted[health]} {health}" for health in Health if counted[health]))

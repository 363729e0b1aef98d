"""Reads the parts of a project from one snapshot of its files, and reuses what did not change."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pipelines.io.config import PROFILES_FILE, check_profiles
from pipelines.model import Pipeline, Problem, RetryPolicy, Severity
from pipelines.parse import (
    PROJECT_FILE,
    ProjectSettings,
    lint_blocks,
    pipeline_file,
    read_pipeline,
    read_settings,
    triggers_file,
    unreadable,
)
from pipelines.parse_fields import Findings
from pipelines.parse_products import read_products
from pipelines.parse_triggers import TriggersRead, read_triggers
from pipelines.products import PRODUCTS_FILE, Product
from pipelines.project_files import Recorder, Snapshot

_PIPELINE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, eq=False)
class PipelineRead:
    """One pipeline as it is on disk, and all that was looked at to know it."""

    recorder: Recorder
    retry: RetryPolicy
    draft: Pipeline | None  # as far as it could be read
    is_good: bool  # no error in it nor in the code of its blocks
    triggers: TriggersRead
    problems: tuple[Problem, ...]

    def sources(self, settings_text: str | None) -> dict[str, str]:
        """Return what a run is pinned to: the YAML, the code of the blocks, the project's settings."""
        assert self.draft is not None
        paths = {self.draft.file, *self.draft.code_paths}
        sources = {path: self.recorder.texts[path] for path in sorted(paths)}
        return sources if settings_text is None else {**sources, PROJECT_FILE: settings_text}


@dataclass(frozen=True, eq=False)
class SettingsRead:
    """The project's own files: `metadata.yaml` in its last good version, names of profiles, data products."""

    texts: tuple[str | None, ...] = (None, None, None)
    settings: ProjectSettings = field(default_factory=ProjectSettings)
    good_text: str | None = None  # the one that made `settings`
    profiles: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()
    problems: tuple[Problem, ...] = ()


def pipeline_names(snapshot: Snapshot) -> tuple[list[str], list[Problem]]:
    """Return the pipelines there are, and a problem for each folder that cannot be one."""
    names, problems = [], []
    for name in snapshot.folders("pipelines"):
        if not snapshot.exists(pipeline_file(name)):
            continue
        if _PIPELINE_NAME.fullmatch(name):
            names.append(name)
        else:
            message = (
                f"'{name}' cannot name a pipeline; rename the folder with letters, digits, '_', '-' and '.'"
            )
            problems.append(Problem(pipeline_file(name), 1, Severity.ERROR, message, name))
    return names, problems


def read_own_files(snapshot: Snapshot, old: SettingsRead | None) -> SettingsRead:
    """Read the project's own files; return `old` itself when they are the same."""
    files = [Findings(file) for file in (PROJECT_FILE, PROFILES_FILE, PRODUCTS_FILE)]
    texts = tuple(_optional(snapshot, file) for file in files)
    if old is not None and old.texts == texts:
        return old
    findings, profile_findings, product_findings = files
    text, profiles_text, products_text = texts
    settings, good_text = ProjectSettings(), text
    if text is not None:
        settings = read_settings(text, findings)
    if findings.error_count and old is not None:
        settings, good_text = old.settings, old.good_text
    profiles = check_profiles(profiles_text, profile_findings) if profiles_text is not None else ()
    products = read_products(products_text, product_findings) if products_text is not None else {}
    problems = tuple(problem for file in files for problem in file.problems)
    return SettingsRead(texts, settings, good_text, profiles, tuple(products.values()), problems)


def read_one(name: str, snapshot: Snapshot, retry: RetryPolicy, old: PipelineRead | None) -> PipelineRead:
    """Read a pipeline with its triggers and code; return `old` itself when all it looked at is the same."""
    if old is not None and old.retry == retry and old.recorder.is_current(snapshot):
        return old
    recorder = Recorder(snapshot)
    findings = Findings(pipeline_file(name), name)
    draft = read_pipeline(name, recorder, retry, findings)
    problems = [*findings.problems, *(lint_blocks(draft, recorder) if draft else ())]
    is_good = draft is not None and all(problem.severity is not Severity.ERROR for problem in problems)
    trigger_findings = Findings(triggers_file(name), name)
    triggers = read_triggers(name, _optional(recorder, trigger_findings), trigger_findings, recorder)
    return PipelineRead(recorder, retry, draft, is_good, triggers, (*problems, *trigger_findings.problems))


def _optional(sources: Snapshot | Recorder, findings: Findings) -> str | None:
    """Return the text of the findings' file, or None when it is not there or cannot be read."""
    try:
        return sources.read(findings.file)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        findings.error(1, f"the file cannot be read: {unreadable(error)}")
        return None

"""Reads a pipeline's `metadata.yaml`, and a project's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import MillraceError
from pipelines.lint import lint_block
from pipelines.mage.keys import WITHOUT_EFFECT
from pipelines.model import Block, BlockType, CloudEvents, Input, Pipeline, Problem, RetryPolicy, Severity
from pipelines.parse_blocks import Sources, read_add_ons, read_blocks, read_retry
from pipelines.parse_cloudevents import read_cloudevents
from pipelines.parse_fields import Findings, Section, read_document, words
from pipelines.parse_inputs import check_reserved, read_inputs
from pipelines.parse_limits import check_throttle
from pipelines.parse_templated import has_statements, read_templated, without_statements
from pipelines.values import ValueProblem, coerce

PROJECT_FILE = "metadata.yaml"

# Mage's other types of pipelines, and what to use in their place.
NOT_RUN = {
    "integration": "use a python pipeline with a block of type data_integration",
    "streaming": "let a trigger start a python pipeline for each message or batch: `type: webhook`, or a "
    "sensor such as pubsub_message",
    "pyspark": "use `type: python`, and make the session in the block: SparkSession.builder.getOrCreate()",
    "databricks": "use `type: python`, and call Databricks in the block",
    "execution_framework": "use `type: python`",
}
PIPELINE_KEYS = words(
    """
    uuid description tags type blocks callbacks conditionals variables retry_config concurrency_config
    inputs timeout checkpoints throttle allow_blocks_to_fail
    """
)
CONCURRENCY_KEYS = frozenset(
    [
        "block_run_limit",
        "pipeline_run_limit",
        "pipeline_run_limit_all_triggers",
        "on_pipeline_run_limit_reached",
        "dynamic_child_limit",
    ]
)
PROJECT_KEYS = words("name retry_config cloudevents")


class ProjectError(MillraceError):
    """A pipeline that cannot be read. `problems` says everything that is wrong with it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        errors = [problem for problem in problems if problem.severity is Severity.ERROR]
        super().__init__(
            f"pipeline '{name}' cannot be read: " + "; ".join(str(problem) for problem in errors)
        )
        self.problems = tuple(problems)


@dataclass(frozen=True)
class ProjectSettings:
    """What a project's `metadata.yaml` says to all its pipelines."""

    name: str = ""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    cloudevents: CloudEvents = field(default_factory=CloudEvents)
    values: dict[str, Any] = field(default_factory=dict)  # the whole file, templates as they are


def pipeline_file(name: str) -> str:
    return f"pipelines/{name}/metadata.yaml"


def triggers_file(name: str) -> str:
    return f"pipelines/{name}/triggers.yaml"


def read_settings(text: str, findings: Findings) -> ProjectSettings:
    """Read the project's `metadata.yaml`. What is wrong goes to `findings`; the rest still counts."""
    if has_statements(text):
        line = text.count("\n", 0, text.index("{%")) + 1
        findings.warning(
            line, "statements such as {% if %} are not evaluated; what stands between them is read as it is"
        )
        text = without_statements(text)
    document = read_document(text, findings, read_templated)
    if document is None:
        return ProjectSettings()
    project = Section(document, (), findings, "the project")
    project.unknown_keys("project", PROJECT_KEYS | WITHOUT_EFFECT["project"].keys())
    retry = read_retry(project, RetryPolicy())
    cloudevents = read_cloudevents(project)
    return ProjectSettings(project.text("name"), retry, cloudevents, dict(project.values))


def read_pipeline(name: str, sources: Sources, retry: RetryPolicy, findings: Findings) -> Pipeline | None:
    """Read a pipeline without its triggers. It is only good when `findings` got no error.

    None comes back when there is nothing to show at all.
    """
    try:
        text = sources.read(pipeline_file(name))
    except (OSError, UnicodeDecodeError) as error:
        findings.error(1, f"pipeline '{name}' cannot be read: {unreadable(error)}")
        return None
    document = read_document(text, findings)
    if document is None:
        return None
    if document.value is None:
        findings.error(1, f"pipeline '{name}': the file is empty; declare its `blocks`")
        return None
    return _pipeline(name, Section(document, (), findings, f"pipeline '{name}'"), sources, retry)


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file cannot be read, without the paths of this machine."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return error.strerror or str(error)


def lint_blocks(pipeline: Pipeline, sources: Sources) -> list[Problem]:
    """Check the code of every block. A file that two blocks use is checked once for each kind of block."""
    problems = []
    seen: set[tuple[str, str]] = set()
    for block in (*pipeline.blocks, *pipeline.conditionals, *pipeline.callbacks):
        if block.has_code and (block.path, block.type.value) not in seen:
            seen.add((block.path, block.type.value))
            problems.extend(_lint(pipeline.name, block, sources))
    return problems


def _lint(name: str, block: Block, sources: Sources) -> list[Problem]:
    findings = Findings(block.path, name)
    try:
        lint_block(block, sources.read(block.path), findings)
    except (OSError, UnicodeDecodeError) as error:
        findings.error(1, f"block '{block.name}': its code cannot be read: {unreadable(error)}")
    return findings.problems


def _pipeline(name: str, section: Section, sources: Sources, retry: RetryPolicy) -> Pipeline:
    section.unknown_keys("pipeline", PIPELINE_KEYS | WITHOUT_EFFECT["pipeline"].keys())
    _check_uuid(name, section, sources)
    if not _is_run(section):
        return Pipeline(name, section.findings.file, blocks=(), description=section.text("description"))
    concurrency = section.section("concurrency_config", f"{section.what}, concurrency_config")
    concurrency.unknown_keys("concurrency_config", CONCURRENCY_KEYS)
    limits = [
        limit
        for key in ("pipeline_run_limit", "pipeline_run_limit_all_triggers")
        if (limit := concurrency.count(key, least=1)) is not None
    ]
    _warn_of_unused(section)
    variables, inputs = section.mapping("variables"), read_inputs(section)
    check_reserved(section, "variables")
    _check_variables(section, variables, inputs)
    policy = read_retry(section, retry)
    blocks = read_blocks(section, sources, policy)
    if not blocks and not section.findings.error_count:
        section.findings.warning(
            section.line("blocks"), f"{section.what}: it has no blocks; a run of it does nothing"
        )
    return Pipeline(
        name=name,
        file=section.findings.file,
        blocks=blocks,
        conditionals=read_add_ons(section, BlockType.CONDITIONAL, sources, policy),
        callbacks=read_add_ons(section, BlockType.CALLBACK, sources, policy),
        description=section.text("description"),
        tags=section.texts("tags"),
        variables=variables,
        inputs=inputs,
        timeout_seconds=section.seconds("timeout"),
        run_limit=min(limits, default=None),
        block_limit=concurrency.count("block_run_limit", least=1),
        child_limit=concurrency.count("dynamic_child_limit", 10_000, least=1) or 10_000,
        allow_blocks_to_fail=section.boolean("allow_blocks_to_fail", default=False),
        when_full=_when_full(concurrency),
        throttle=_throttle(section),
        allow_pickle=section.section("checkpoints", f"{section.what}, checkpoints").boolean(
            "pickle", default=False
        ),
    )


def _when_full(concurrency: Section) -> str:
    """Return what becomes of an event that finds a limit full, in our word for it."""
    reached = concurrency.text("on_pipeline_run_limit_reached", "wait")
    if reached not in ("wait", "skip"):
        concurrency.error(
            "on_pipeline_run_limit_reached", "`on_pipeline_run_limit_reached` must be one of wait, skip"
        )
    return "skip" if reached == "skip" else "queue"


def _throttle(section: Section) -> Mapping[str, Any] | None:
    if "throttle" not in section:
        return None
    throttle = section.section("throttle", f"{section.what}, throttle")
    check_throttle(throttle)
    return dict(throttle.values)


def _warn_of_unused(section: Section) -> None:
    """Say what the pipeline asks for and does not get yet. Mage writes these keys empty into every file."""
    if any(isinstance(one, Mapping) and one.get("blocks") for one in section.mapping("extensions").values()):
        section.warning("extensions", "`extensions` are not run yet; write such checks as @test functions")
    if section.get("notification_config"):
        section.warning("notification_config", "`notification_config` is not applied yet; nobody is told")
    if section.get("overrides"):
        section.warning("overrides", "`overrides` are not applied; write the values themselves")


def _check_variables(section: Section, variables: Mapping[str, Any], inputs: Sequence[Input]) -> None:
    """Report variables that an input of the same name would refuse at every run."""
    for declared in inputs:
        value = variables.get(declared.name)
        if value is None:
            continue
        try:
            coerce(value, declared.type)
        except ValueProblem as problem:
            line = section.line("variables", declared.name)
            section.findings.error(
                line, f"{section.what}: the variable '{declared.name}' must be {problem}, as its input says"
            )


def _check_uuid(name: str, section: Section, sources: Sources) -> None:
    """Mage writes the folder's name into the file; a copied folder often still says the old one."""
    declared = section.text("uuid", name)
    if declared == name:
        return
    if sources.exists(pipeline_file(declared)):
        section.error(
            "uuid", f"the uuid '{declared}' is the name of another pipeline; write '{name}', or remove it"
        )
    else:
        section.warning(
            "uuid", f"the uuid '{declared}' is not the folder's name, and the folder's name counts"
        )


def _is_run(section: Section) -> bool:
    """Report a type of pipeline that is not run: one problem, and none of its blocks, which are not ours."""
    kind = section.text("type", "python") or "python"
    if kind in NOT_RUN:
        section.error("type", f"pipelines of type '{kind}' are not run; {NOT_RUN[kind]}")
        return False
    if kind != "python":
        section.error("type", f"the pipeline type '{kind}' is unknown; write python")
    executor = section.get("executor_type")
    if executor not in (None, "local_python", "local_python_force"):
        section.warning(
            "executor_type", f"the executor '{executor}' is not used; the pipeline runs in local workers"
        )
    return True

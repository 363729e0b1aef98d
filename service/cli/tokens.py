"""The token that guards a webhook, for those who may read the project and its store."""

from __future__ import annotations

from pipelines.model import TriggerType
from service.intake.doors import own_token
from service.matching.rendering import Rendering
from service.matching.triggers import CompiledTrigger, compile_trigger
from service.runtime import Runtime
from service.store import triggers
from service.store.session import Commit


def trigger_token(runtime: Runtime, project: str, pipeline: str, name: str) -> str | None:
    """Return the token that Millrace made for the webhook (at this sight, if it is the first).

    None for a webhook that names its own secret, or none: what the user wrote is not shown again.
    """
    compiled = compiled_trigger(runtime, project, pipeline, name)
    verify = compiled.trigger.spec.get("verify")  # as it is written: a missing secret makes no token ours
    is_ours = compiled.trigger.type is TriggerType.WEBHOOK and (
        verify is None or (compiled.trigger.mage and not isinstance(verify, str))
    )
    return own_token(compiled, lambda one: _made_token(runtime, one)) if is_ours else None


def compiled_trigger(runtime: Runtime, project: str, pipeline: str, name: str) -> CompiledTrigger:
    """Return the trigger with its options rendered; KeyError when the pipeline has none of that name."""
    declared = runtime.projects.get(project).pipelines[pipeline]
    for trigger in declared.triggers:
        if trigger.name == name:
            return compile_trigger(project, declared, trigger, Rendering(runtime.environ, runtime.secrets))
    raise KeyError(name)


def _made_token(runtime: Runtime, compiled: CompiledTrigger) -> str:
    return runtime.database.write(
        Commit.TRIGGER,
        lambda tx: triggers.token_of(tx, compiled.project, compiled.pipeline.name, compiled.name),
    )

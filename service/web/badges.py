"""How a state looks: one of five colour groups, and always a glyph and the word beside the colour."""

from __future__ import annotations

from dataclasses import dataclass

from service.store.values import BlockState, Outcome, RunState


@dataclass(frozen=True, slots=True)
class Badge:
    group: str  # good | bad | active | waiting | neutral: a CSS class, tested for contrast in both themes
    glyph: str
    word: str


_GOOD, _BAD, _ACTIVE, _WAITING, _NEUTRAL = "good", "bad", "active", "waiting", "neutral"

RUN_BADGES = {
    RunState.QUEUED: Badge(_WAITING, "…", "queued"),
    RunState.RUNNING: Badge(_ACTIVE, "▶", "running"),
    RunState.WAITING: Badge(_WAITING, "⧖", "waiting"),
    RunState.SUCCEEDED: Badge(_GOOD, "✓", "succeeded"),
    RunState.FAILED: Badge(_BAD, "✕", "failed"),
    RunState.CANCELLED: Badge(_NEUTRAL, "■", "cancelled"),
}

BLOCK_BADGES = {
    BlockState.QUEUED: Badge(_NEUTRAL, "○", "queued"),
    BlockState.RUNNING: Badge(_ACTIVE, "▶", "running"),
    BlockState.WAITING: Badge(_WAITING, "↻", "waiting for a retry"),
    BlockState.SUCCEEDED: Badge(_GOOD, "✓", "succeeded"),
    BlockState.FAILED: Badge(_BAD, "✕", "failed"),
    BlockState.CANCELLED: Badge(_NEUTRAL, "■", "cancelled"),
    BlockState.SKIPPED: Badge(_NEUTRAL, "⤼", "skipped"),
    BlockState.UPSTREAM_FAILED: Badge(f"{_BAD} outlined", "⊘", "upstream failed"),
}

OUTCOME_BADGES = {
    Outcome.RAN: Badge(_GOOD, "✓", "ran"),
    Outcome.BATCHED: Badge(_GOOD, "≡", "batched"),
    Outcome.HELD: Badge(_WAITING, "‖", "held"),
    Outcome.SKIPPED: Badge(_NEUTRAL, "⤼", "skipped"),
    Outcome.MAPPING_FAILED: Badge(_BAD, "✕", "mapping failed"),
    Outcome.FILTERED: Badge(_NEUTRAL, "▽", "filtered"),
    Outcome.UNMATCHED: Badge(_NEUTRAL, "∅", "unmatched"),
    Outcome.QUARANTINED: Badge(f"{_BAD} outlined", "⚠", "quarantined"),
    Outcome.BASELINE: Badge(_NEUTRAL, "○", "baseline"),
}

PAUSED = Badge(_WAITING, "‖", "paused")
DISABLED = Badge(_NEUTRAL, "■", "disabled")
CANCELLING = Badge(_WAITING, "■", "cancelling")
NEVER_RAN = Badge(_NEUTRAL, "○", "no run yet")
